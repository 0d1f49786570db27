//! Requests, one file for each. A handler reads its request, asks lanes, and builds the answer.

mod acls;
#[cfg(test)]
mod admin_stories;
mod alter;
mod alter_configs;
mod alter_partition_reassignments;
mod api_versions;
mod call;
mod create_partitions;
mod create_topics;
mod decide;
mod delete_groups;
mod delete_records;
mod delete_topics;
mod describe_cluster;
mod describe_configs;
mod describe_groups;
mod describe_log_dirs;
mod describe_quorum;
mod describe_topic_partitions;
mod elect_leaders;
mod fetch;
#[cfg(test)]
mod fetch_stories;
mod find_coordinator;
mod heartbeat;
mod incremental_alter_configs;
mod init_producer_id;
mod join_group;
mod leave_group;
mod list_config_resources;
mod list_groups;
mod list_offsets;
mod list_partition_reassignments;
#[cfg(test)]
mod long_stories;
mod metadata;
mod offset_commit;
mod offset_delete;
mod offset_fetch;
mod offset_for_leader_epoch;
mod operations;
#[cfg(test)]
mod order_stories;
mod places;
mod produce;
#[cfg(test)]
mod refusal_stories;
mod resources;
mod stages;
#[cfg(test)]
mod stop_stories;
#[cfg(test)]
mod sweep_stories;
mod sync_group;
#[cfg(test)]
mod topic_stories;
#[cfg(test)]
mod wire_stories;

pub use acls::NoAuthorizer;
pub use alter_partition_reassignments::AssignError;
pub use call::{Call, Handlers};
pub use decide::Undecided;
pub use delete_records::KeepError;
pub use describe_cluster::EndpointError;
pub use describe_topic_partitions::BadCursor;
pub use elect_leaders::ElectError;
pub use resources::ResourceError;
