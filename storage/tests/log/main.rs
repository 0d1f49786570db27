//! Stories of a lane's log on a simulated disk: stops, cuts, restarts.

mod ages;
mod ahead;
mod crash;
mod damage;
mod harness;
mod indexes;
mod lanes;
mod leave;
mod line;
mod long;
mod many;
mod media;
mod model;
mod mutants;
mod newer;
mod pace;
mod racing;
mod restart;
mod starts;
mod truncate;
mod upkeep;
mod warm;
