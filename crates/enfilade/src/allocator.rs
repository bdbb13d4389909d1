//! Where memory comes from, and how it is given back when it is short.

use std::ptr::null_mut;
use tikv_jemalloc_sys::mallctl;

/// It gives memory back after a peak of connections, and threads that free each other's memory do not wait for it.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Gives back at once what was freed and is kept for later use. By itself that takes ten seconds, and as long as anybody
/// allocates: a node that refuses everything would keep it.
#[expect(unsafe_code, reason = "the allocator's own interface is in C")]
pub(crate) fn give_back() {
    // SAFETY: the name ends with a zero, and a command without a value is asked for none (jemalloc(3), arena.<i>.purge;
    // 4096 are all arenas).
    let code = unsafe { mallctl(c"arena.4096.purge".as_ptr(), null_mut(), null_mut(), null_mut(), 0) };
    debug_assert_eq!(code, 0, "jemalloc knows it");
}

#[cfg(test)]
mod tests {
    use super::*;
    use enfilade_runtime::usage::resident_bytes;

    #[test]
    fn what_was_freed_goes_back_to_the_system() {
        const BYTES: usize = 256 << 20;
        let held: Vec<u8> = vec![1; BYTES];
        assert!(held.iter().all(|byte| *byte == 1));
        let most = resident_bytes().expect("Linux");
        drop(held);
        give_back();
        let left = resident_bytes().expect("Linux");
        assert!(left + (BYTES as u64) / 2 < most, "{most} before, {left} after");
    }
}
