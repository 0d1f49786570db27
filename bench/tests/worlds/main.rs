//! The whole broker in worlds that go wrong.

#[path = "../../../core/tests/sim/guard.rs"]
mod guard;

mod damage;
mod mutants;
mod whole;
