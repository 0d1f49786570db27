//! The wire from outside: what is committed beside the code, against the code; and strangers.

mod allocations;
mod budgets;
mod connections;
mod documents;
mod files;
mod golden;
mod hostile;
mod hot_path;
mod proof;
mod stage;
