//! The shape of the workspace, as tests. Nothing here is linked into anything.
//!
//! What a compiler cannot refuse is refused here: a room that looks up, a file that opens a door to the
//! machine it should not have, a document that points nowhere, a licence nobody agreed to. The checks
//! read text and are crude on purpose: a word in a comment counts, so write the comment without it.
//! The lists at the top of each file are the agreement; changing one is the change to discuss.

#[cfg(test)]
mod licences;
#[cfg(test)]
mod metadata;
#[cfg(test)]
mod rooms;
#[cfg(test)]
mod tidy;
#[cfg(test)]
mod walk;
