//! Formats of commands and versions of the configuration: nobody uses what another does not know, nobody overwrites what
//! he has not seen.

use enfilade_registry::{Command, DOCUMENT_BYTES_MAX, NodeId, Refusal, StateMachine, VERSIONS_KEPT};

use crate::{Cluster, register, run};

fn with_formats(node: u64, formats: u32) -> Command {
    let mut command = register(run(node, 1));
    if let Command::Register { formats: known, .. } = &mut command {
        *known = formats;
    }
    command
}

fn document(version: u64, text: &str) -> Command {
    Command::ApplyConfiguration { version, document: text.into(), reverts: None }
}

/// Two members that know format 2, which is finalised.
fn finalised() -> Cluster {
    let mut cluster = Cluster::new(2, 0);
    cluster.ok(with_formats(1, 2));
    cluster.ok(with_formats(2, 2));
    cluster.ok(Command::Finalise { version: 2 });
    cluster
}

#[test]
fn a_format_is_used_once_all_know_it_and_an_operator_said_so() {
    let mut cluster = Cluster::new(2, 0);
    cluster.ok(with_formats(1, 2));
    cluster.ok(with_formats(2, 1));
    let refusal = Refusal::NotFinalised { needs: 2 };
    let early = Err(refusal);
    assert_eq!((cluster.0.cluster_version(), cluster.0.may_propose(&document(1, "a"))), (1, Err(refusal)));
    assert_eq!(cluster.apply(document(1, "a")), early, "whoever proposed it");
    assert_eq!(cluster.apply(Command::Finalise { version: 2 }), Err(Refusal::NotSupported { node: NodeId(2) }));
    let mut upgraded = with_formats(2, 2);
    if let Command::Register { run, .. } = &mut upgraded {
        run.generation.0 = 2;
    }
    cluster.ok(upgraded);
    assert_eq!(cluster.apply(document(1, "a")), early, "all know it, nobody said so");
    cluster.ok(Command::Finalise { version: 2 });
    cluster.ok(Command::Finalise { version: 2 });
    assert_eq!((cluster.0.cluster_version(), cluster.0.may_propose(&document(1, "a"))), (2, Ok(())));
    cluster.ok(document(1, "a"));
}

#[test]
fn nobody_goes_back_or_beyond_what_this_release_knows() {
    let mut cluster = finalised();
    for version in [0, 1, 3, u32::MAX] {
        assert_eq!(cluster.apply(Command::Finalise { version }), Err(Refusal::OtherVersion { current: 2 }));
    }
    assert_eq!(cluster.apply(with_formats(3, 1)), Err(Refusal::TooOld { version: 2 }));
    cluster.ok(with_formats(3, 3));
}

#[test]
fn a_version_follows_the_one_before_it() {
    let mut cluster = finalised();
    assert_eq!(cluster.0.configuration().version(), 0);
    let other = |current| Err(Refusal::OtherVersion { current });
    assert_eq!(cluster.apply(document(2, "a")), other(0));
    cluster.ok(document(1, "a"));
    cluster.ok(document(1, "a"));
    assert_eq!(cluster.apply(document(1, "b")), other(1), "two that saw the same version");
    cluster.ok(document(2, "b"));
    assert_eq!(cluster.apply(document(1, "a")), other(2));
    let large = "x".repeat(DOCUMENT_BYTES_MAX + 1);
    let bytes_max = DOCUMENT_BYTES_MAX as u64;
    assert_eq!(cluster.apply(document(3, &large)), Err(Refusal::DocumentTooLarge { bytes_max }));
    let texts: Vec<_> = cluster.0.configuration().newest_first().map(|(n, document)| (n, &*document.text)).collect();
    assert_eq!(texts, [(2, "b"), (1, "a")], "what was refused changed nothing");
}

#[test]
fn so_many_versions_are_kept_and_survive_a_snapshot() {
    let mut cluster = finalised();
    let last = VERSIONS_KEPT as u64 + 3;
    for version in 1..=last {
        cluster.ok(Command::ApplyConfiguration { version, document: "a".into(), reverts: Some(1) });
    }
    assert_eq!(cluster.0.configuration().newest_first().count(), VERSIONS_KEPT);
    assert!(cluster.0.configuration().get(3).is_none());
    assert_eq!(cluster.0.configuration().get(4).and_then(|document| document.reverts), Some(1));
    let again = StateMachine::restore(&cluster.0.snapshot()).expect("a snapshot");
    assert_eq!((again.digest(), again.cluster_version()), (cluster.0.digest(), 2));
    assert_eq!(again.configuration(), cluster.0.configuration());
}
