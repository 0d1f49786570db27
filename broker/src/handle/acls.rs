//! Who may do what. There is no authorizer, and whoever asks for its rules hears that.

use std::fmt;

use corelane_net::conn::Reply;
use corelane_net::messages::create_acls::{
    AclCreationResult, CreateAclsRequest, CreateAclsResponse,
};
use corelane_net::messages::delete_acls::{
    DeleteAclsFilterResult, DeleteAclsRequest, DeleteAclsResponse,
};
use corelane_net::messages::describe_acls::{DescribeAclsRequest, DescribeAclsResponse};

use super::Call;
use crate::edge::{Code, tell};

/// Nobody keeps rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoAuthorizer;

impl fmt::Display for NoAuthorizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("No Authorizer is configured.")
    }
}

pub(super) async fn describe(call: Call) -> Reply {
    let told = tell(&NoAuthorizer);
    match call.decode::<DescribeAclsRequest<'_>>().await {
        Ok(_) => {
            call.answer(&DescribeAclsResponse {
                error_code: told.code().code(),
                error_message: Some(&told.message),
                ..Default::default()
            })
            .await
        }
        Err(reply) => reply,
    }
}

pub(super) async fn create(call: Call) -> Reply {
    let told = tell(&NoAuthorizer);
    let result =
        AclCreationResult { error_code: told.code().code(), error_message: Some(&told.message) };
    match call.decode::<CreateAclsRequest<'_>>().await {
        Ok(request) => {
            call.answer(&CreateAclsResponse {
                results: vec![result; request.creations.len()].into(),
                ..Default::default()
            })
            .await
        }
        Err(reply) => reply,
    }
}

pub(super) async fn delete(call: Call) -> Reply {
    let told = tell(&NoAuthorizer);
    let result = DeleteAclsFilterResult {
        error_code: told.code().code(),
        error_message: Some(&told.message),
        ..Default::default()
    };
    match call.decode::<DeleteAclsRequest<'_>>().await {
        Ok(request) => {
            call.answer(&DeleteAclsResponse {
                filter_results: vec![result; request.filters.len()].into(),
                ..Default::default()
            })
            .await
        }
        Err(reply) => reply,
    }
}
