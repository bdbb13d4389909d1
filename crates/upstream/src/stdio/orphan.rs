//! Makes a process die with the gateway, however the gateway ends (`PR_SET_PDEATHSIG`, Linux only; elsewhere its closed
//! stdin must do). The one place with unsafe code: the call has to be made between fork and exec.

use tokio::process::Command;

/// The process is killed when the thread that starts it ends: that must be one that lives as long as the gateway (see
/// [`super::spawner`]).
#[cfg(target_os = "linux")]
#[allow(unsafe_code, reason = "there is no safe way to run code between fork and exec")]
pub(crate) fn dies_with_us(command: &mut Command) {
    let gateway = std::process::id();
    // SAFETY: only async-signal-safe system calls are made, and no memory is allocated.
    unsafe {
        command.pre_exec(move || {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                return Err(std::io::Error::last_os_error());
            }
            // The gateway may have died before the call; then no signal will come.
            if libc::getppid() as u32 != gateway {
                return Err(std::io::Error::from_raw_os_error(libc::ESRCH));
            }
            Ok(())
        });
    }
}

/// Elsewhere there is no such call.
#[cfg(not(target_os = "linux"))]
pub(crate) fn dies_with_us(_command: &mut Command) {}
