//! The node's side of the registry: submissions, the application of what was committed, and reads by ReadIndex.

use std::sync::Arc;

use enfilade_registry::{Command, Outcome, Refusal, Roles};
use rand::Rng;

use super::{Node, index_of};
use crate::clock::MILLI;
use crate::ctx::Ctx;
use crate::event::{Input, Packet, RegistryAsk, Timer};
use crate::raft::Ticket;

/// What waits for a submission of this process.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Waiting {
    /// A write of a client of the registry.
    Write { operation: usize },
}

/// A read that waits for its index.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    operation: usize,
    key: usize,
    index: Option<u64>,
}

/// Between two tries to register.
const REGISTER_MS: u64 = 300;

impl Node {
    /// Sends a command to the leader, if one is known. Once: whether it is applied, its ticket tells.
    pub(crate) fn submit(&mut self, ctx: &mut Ctx, command: Command) -> Option<Ticket> {
        let leader = self.raft.leader?;
        self.tickets += 1;
        let ticket = Ticket { origin: self.run, life: ctx.lives[self.id], number: self.tickets };
        ctx.line(format_args!("n{} submits {}", self.id, crate::setup::short(&command)));
        ctx.packet(self.id, leader, Packet::Submit { ticket, command: Arc::new(command) });
        Some(ticket)
    }

    /// A run registers itself until it finds itself among the members.
    pub(super) fn register(&mut self, ctx: &mut Ctx) {
        let now_ms = self.now_ms(ctx);
        if self.machine.members().is_current(self.run) || now_ms < self.registered_ms + REGISTER_MS {
            return;
        }
        self.registered_ms = now_ms;
        let name: Arc<str> = format!("n{}", self.id).into();
        let command =
            Command::Register { run: self.run, name: name.clone(), link: name, roles: Roles::ALL, formats: 1 };
        self.submit(ctx, command);
    }

    /// Applies what was committed: at once, or a little later.
    pub(super) fn plan_apply(&mut self, ctx: &mut Ctx) {
        if self.raft.commit <= self.machine.applied() || self.apply_planned {
            return;
        }
        if ctx.rng.random_ratio(1, 5) {
            self.apply_planned = true;
            let longest = if ctx.rng.random_ratio(1, 50) { 500 } else { 30 };
            let after = ctx.rng.random_range(MILLI..=longest * MILLI);
            ctx.input(after, self.id, Input::Timer(Timer::Apply));
        } else {
            self.apply(ctx);
        }
    }

    pub(super) fn apply(&mut self, ctx: &mut Ctx) {
        while self.machine.applied() < self.raft.commit {
            let index = self.machine.applied() + 1;
            let Some(entry) = self.raft.entry(index).cloned() else { return };
            let before = self.machine.slots().clone();
            // The first entry of a leader changes nothing but the index, as a batch of no commands.
            let result = entry.command.as_ref().map(|command| self.machine.apply_batch(index, &[(**command).clone()]));
            if result.is_none() {
                self.machine.apply_batch(index, &[]);
            }
            let result = result.and_then(|mut results| results.pop());
            ctx.committed(self.id, index, entry.command.as_deref(), &before, &self.machine, result.as_ref());
            self.holder.applied(index);
            self.lead_applied(ctx, entry.command.as_deref());
            if before.version() != self.machine.slots().version() || entry.command.is_some() {
                self.owner_applied(ctx, index, &before);
            }
            if let (Some(ticket), Some(result)) = (entry.ticket, result) {
                self.submitted(ctx, ticket, &result);
            }
        }
        self.edge_applied(ctx);
        self.answer_reads(ctx);
    }

    fn submitted(&mut self, ctx: &mut Ctx, ticket: Ticket, _result: &Result<Outcome, Refusal>) {
        if ticket.life != ctx.lives[self.id] {
            return;
        }
        if let Some(Waiting::Write { operation }) = self.waiting.remove(&ticket) {
            ctx.registry_done(operation, None);
        }
    }

    pub(super) fn registry_asked(&mut self, ctx: &mut Ctx, client: usize, ask: RegistryAsk) {
        match ask {
            RegistryAsk::Write { operation, value } => {
                let command = crate::setup::write(client, value);
                if let Some(ticket) = self.submit(ctx, command) {
                    self.waiting.insert(ticket, Waiting::Write { operation });
                }
            }
            RegistryAsk::Read { operation } => {
                let Some(leader) = self.raft.leader else { return };
                self.tickets += 1;
                let number = self.tickets;
                self.reading.insert(number, Reading { operation, key: client, index: None });
                ctx.packet(self.id, leader, Packet::ReadIndex { number });
            }
        }
    }

    pub(super) fn got_index(&mut self, ctx: &mut Ctx, number: u64, index: u64) {
        if let Some(reading) = self.reading.get_mut(&number) {
            reading.index = Some(index);
        }
        self.answer_reads(ctx);
    }

    fn answer_reads(&mut self, ctx: &mut Ctx) {
        let applied = self.machine.applied();
        let machine = &self.machine;
        self.reading.retain(|_, reading| {
            let ready = reading.index.is_some_and(|index| index <= applied);
            if ready {
                ctx.registry_done(reading.operation, Some(crate::setup::read(machine, reading.key)));
            }
            !ready
        });
    }

    /// The node that a slot's record names as owner, if it is of the run that the members know.
    pub(crate) fn owner_of(&self, slot: enfilade_registry::Slot) -> Option<(usize, enfilade_registry::Term)> {
        let record = self.machine.slots().get(slot);
        record.owner.map(|owner| (index_of(owner.node), record.term))
    }
}
