//! A process that this program started: what it says of itself, and its end. It ends with this program whatever
//! happens: killed with its group when dropped, and told by the end of its standard input.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use thiserror::Error;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::watch;
use tokio::time::timeout;

/// Longest time for a process to say what is waited for.
const SAID_WITHIN: Duration = Duration::from_secs(60);
/// Longest time for a process to end when asked to: a node hands over and finishes its calls first.
const END_WITHIN: Duration = Duration::from_secs(90);
const LOG_TAIL_CHARS: usize = 2_000;
/// Later lines are read and forgotten.
const LINES_MAX: usize = 64;

/// Why something could not be done with a process. Its last words are part of the text.
#[derive(Debug, Error)]
pub enum Failure {
    /// The program or its log cannot be opened.
    #[error("cannot start {name}: {cause}")]
    Start {
        /// The process.
        name: String,
        /// What the system says.
        cause: io::Error,
    },
    /// It still runs, and has not said it.
    #[error("{name}: no {what} within {SAID_WITHIN:?}: {log}")]
    Silent {
        /// The process.
        name: String,
        /// What was waited for.
        what: String,
        /// The end of its log.
        log: String,
    },
    /// It has ended, and should not have.
    #[error("{name} ended {before}: {log}")]
    Ended {
        /// The process.
        name: String,
        /// Before or while what.
        before: String,
        /// The end of its log.
        log: String,
    },
    /// It was asked to end and still runs.
    #[error("{name} did not end within {within:?}: {log}")]
    Runs {
        /// The process.
        name: String,
        /// How long that was waited for.
        within: Duration,
        /// The end of its log.
        log: String,
    },
    /// The system does not let it be signalled or waited for.
    #[error("{name}: {cause}")]
    System {
        /// The process.
        name: String,
        /// What the system says.
        cause: io::Error,
    },
}

/// The lines `WORD VALUE` that a process printed on its standard output, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    lines: Vec<(String, String)>,
    ended: bool,
}

impl Said {
    /// The first value of a word.
    pub fn first(&self, word: &str) -> Option<&str> {
        self.all(word).next()
    }

    /// All values of a word.
    pub fn all<'a>(&'a self, word: &str) -> impl Iterator<Item = &'a str> {
        self.lines.iter().filter(move |(said, _)| said == word).map(|(_, value)| value.as_str())
    }
}

/// A running process.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    pid: Pid,
    said: watch::Receiver<Said>,
    log: PathBuf,
    /// Its end tells the process that nobody waits for it any more.
    _stdin: Option<ChildStdin>,
}

impl Process {
    /// Starts it; what it writes to standard error goes to the end of `log`. Needs a runtime.
    ///
    /// # Errors
    /// The program or the log cannot be opened.
    pub fn start(name: &str, mut command: Command, log: &Path) -> Result<Process, Failure> {
        let failed = |cause| Failure::Start { name: name.to_owned(), cause };
        let stderr = File::options().create(true).append(true).open(log).map_err(failed)?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(stderr).kill_on_drop(true);
        // A group of its own: Ctrl-C ends this program, and that ends the others.
        command.process_group(0);
        let mut child = command.spawn().map_err(failed)?;
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        let (Some(id), Some(stdout)) = (id, child.stdout.take()) else {
            return Err(failed(io::Error::other("it has no id or no standard output")));
        };
        let stdin = child.stdin.take();
        let (sender, said) = watch::channel(Said::default());
        // Ends with the pipe.
        tokio::spawn(listen(stdout, sender));
        Ok(Process { name: name.to_owned(), child, pid: Pid::from_raw(id), said, log: log.to_owned(), _stdin: stdin })
    }

    /// Its id.
    pub fn pid(&self) -> i32 {
        self.pid.as_raw()
    }

    /// What it has printed once `enough` says so; `what` is waited for, in the words of an error.
    ///
    /// # Errors
    /// It ends before that, or does not say it within a minute.
    pub async fn said(&mut self, what: &str, enough: impl Fn(&Said) -> bool) -> Result<Said, Failure> {
        let waited = timeout(SAID_WITHIN, self.said.wait_for(|said| enough(said) || said.ended)).await;
        // What was seen is copied: it must not be held while the log is read.
        let said = waited.map(|said| said.map(|said| said.clone()));
        match said {
            Ok(Ok(said)) if enough(&said) => Ok(said),
            Ok(_) => Err(self.ended_early(&format!("before it said its {what}"))),
            Err(_) => Err(Failure::Silent { name: self.name.clone(), what: what.to_owned(), log: self.log_tail() }),
        }
    }

    /// It still runs.
    ///
    /// # Errors
    /// It does not.
    pub fn check_alive(&mut self) -> Result<(), Failure> {
        match self.has_ended()? {
            None => Ok(()),
            Some(status) => Err(self.ended_early(&format!("meanwhile ({status})"))),
        }
    }

    /// How it has ended, if it has.
    ///
    /// # Errors
    /// The system does not say.
    pub fn has_ended(&mut self) -> Result<Option<ExitStatus>, Failure> {
        self.child.try_wait().map_err(|cause| self.system(cause))
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// It was waited for, or the system refuses.
    pub fn signal(&self, signal: Signal) -> Result<(), Failure> {
        // A process that was waited for has no id any more, which might be somebody else's by now.
        if self.child.id().is_none() {
            return Err(self.ended_early(&format!("before {signal}")));
        }
        kill(self.pid, signal).map_err(|errno| self.system(errno.into()))
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// It has not `within` that time.
    pub async fn ended(&mut self, within: Duration) -> Result<ExitStatus, Failure> {
        match timeout(within, self.child.wait()).await {
            Ok(Ok(status)) => Ok(status),
            Ok(Err(cause)) => Err(self.system(cause)),
            Err(_) => Err(Failure::Runs { name: self.name.clone(), within, log: self.log_tail() }),
        }
    }

    /// Asks it to end (SIGTERM), and waits.
    ///
    /// # Errors
    /// It has ended before, or does not within 90 s.
    pub async fn end(mut self) -> Result<ExitStatus, Failure> {
        self.check_alive()?;
        self.signal(Signal::SIGTERM)?;
        self.ended(END_WITHIN).await
    }

    /// Ends it at once (SIGKILL), and waits.
    ///
    /// # Errors
    /// It has ended before.
    pub async fn kill(mut self) -> Result<ExitStatus, Failure> {
        self.check_alive()?;
        self.signal(Signal::SIGKILL)?;
        self.ended(END_WITHIN).await
    }

    /// Asks it to end, and again `after` that, when it has not ended yet: then it waits for nothing any more. Returns how
    /// long that took.
    ///
    /// # Errors
    /// It ends before the second signal, or not within 90 s of it.
    pub async fn end_at_once(mut self, after: Duration) -> Result<Duration, Failure> {
        self.signal(Signal::SIGTERM)?;
        if timeout(after, self.child.wait()).await.is_ok() {
            return Err(self.ended_early("at the first signal: it had nothing to wait for"));
        }
        self.signal(Signal::SIGTERM)?;
        let again = std::time::Instant::now();
        self.ended(END_WITHIN).await?;
        Ok(again.elapsed())
    }

    fn ended_early(&self, before: &str) -> Failure {
        Failure::Ended { name: self.name.clone(), before: before.to_owned(), log: self.log_tail() }
    }

    fn system(&self, cause: io::Error) -> Failure {
        Failure::System { name: self.name.clone(), cause }
    }

    fn log_tail(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let skip = text.chars().count().saturating_sub(LOG_TAIL_CHARS);
        text.chars().skip(skip).collect()
    }
}

impl Drop for Process {
    /// Kills its group too: what it started itself and did not put elsewhere.
    fn drop(&mut self) {
        if self.child.id().is_some() {
            // Gone already: that is what is wanted.
            let _: Result<(), Errno> = killpg(self.pid, Signal::SIGKILL);
        }
    }
}

async fn listen(stdout: ChildStdout, said: watch::Sender<Said>) {
    let mut lines = BufReader::new(stdout).lines();
    // A process must not fail because nobody reads what it prints.
    while let Ok(Some(line)) = lines.next_line().await {
        let Some((word, value)) = line.split_once(' ') else { continue };
        let line = (word.to_owned(), value.trim().to_owned());
        said.send_if_modified(|said| {
            let kept = said.lines.len() < LINES_MAX;
            if kept {
                said.lines.push(line);
            }
            kept
        });
    }
    said.send_modify(|said| said.ended = true);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;
    use std::sync::atomic::{AtomicU32, Ordering};

    fn shell(script: &str) -> (Process, PathBuf) {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("enfilade-process-{}-{}.log", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let log = std::env::temp_dir().join(name);
        let mut command = Command::new("sh");
        command.arg("-c").arg(script);
        (Process::start("shell", command, &log).expect("started"), log)
    }

    #[tokio::test]
    async fn what_it_says_is_kept_by_word_and_it_ends_when_asked() {
        let (mut process, log) = shell("echo link a; echo nonsense; echo ready b; echo ready c; exec cat");
        let said = process.said("endpoints", |said| said.all("ready").count() == 2).await.expect("said");
        assert_eq!((said.first("link"), said.first("ready"), said.first("gossip")), (Some("a"), Some("b"), None));
        process.check_alive().expect("alive");
        let status = process.end().await.expect("ended");
        assert!(!status.success(), "by a signal");
        std::fs::remove_file(log).expect("its log");
    }

    #[tokio::test]
    async fn who_ends_without_saying_it_is_told_with_its_last_words() {
        let (mut process, log) = shell("echo link a; echo 'no such file' >&2; exit 3");
        let failure = process.said("endpoint", |said| said.first("ready").is_some()).await.expect_err("it ended");
        let text = failure.to_string();
        assert!(text.contains("before it said its endpoint") && text.contains("no such file"), "{text}");
        assert_eq!(process.ended(END_WITHIN).await.expect("ended").code(), Some(3));
        assert!(process.check_alive().is_err() && process.signal(Signal::SIGTERM).is_err());
        std::fs::remove_file(log).expect("its log");
    }

    #[tokio::test]
    async fn killed_it_has_no_say() {
        let (mut process, log) = shell("trap '' TERM; echo ready a; while :; do read line; done");
        process.said("endpoint", |said| said.first("ready").is_some()).await.expect("said");
        process.signal(Signal::SIGTERM).expect("sent");
        let status = process.kill().await.expect("ended");
        assert_eq!(status.signal(), Some(Signal::SIGKILL as i32));
        let (mut process, other) = shell("exit 0");
        process.ended(END_WITHIN).await.expect("ended");
        assert!(process.kill().await.is_err(), "it has ended before");
        std::fs::remove_file(log).and_then(|()| std::fs::remove_file(other)).expect("their logs");
    }

    #[tokio::test]
    async fn dropped_it_goes_with_those_that_it_started() {
        // The second holds the pipe open until it is gone too.
        let (mut process, log) = shell("sleep 600 & echo pid $!; wait");
        let said = process.said("child", |said| said.first("pid").is_some()).await.expect("said");
        let mut heard = process.said.clone();
        let child: i32 = said.first("pid").expect("a pid").parse().expect("a number");
        assert!(crate::children(process.pid()).expect("children").contains(&child));
        drop(process);
        timeout(SAID_WITHIN, heard.wait_for(|said| said.ended)).await.expect("in time").expect("heard");
        std::fs::remove_file(log).expect("its log");
    }
}
