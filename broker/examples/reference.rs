//! Prints `docs/configuration.md`.

fn main() {
    print!("{}", corelane_broker::config::print::reference());
}
