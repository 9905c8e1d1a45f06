//! Administration of groups: who is in, and what they may reach ([`crate::groups`]).

use crate::config::OwnerCode;
use crate::groups::Rule;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// `GET` → [`ClientGroup`]s, `POST` [`NewGroup`] → [`ClientGroup`]; `/<id>`: `GET` → [`ClientGroup`], `DELETE`;
/// `POST /<id>/rules` [`GroupRules`], `POST /<id>/members` and `/<id>/members/remove` [`GroupMember`] →
/// [`ClientGroup`].
pub const ADMIN_GROUPS: &str = "/v1/admin/groups";

/// Makes a group without members.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NewGroup {
    /// Whose. An admin leaves it out: it is the admin's own.
    pub owner: Option<OwnerCode>,
    /// For people, 1 to 100 characters; each once for an owner.
    pub name: String,
    /// What its members may reach; nothing when empty.
    #[serde(default)]
    pub rules: Vec<Rule>,
}

/// Replaces the rules of a group.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct GroupRules {
    /// In their order: the first that matches counts.
    pub rules: Vec<Rule>,
}

/// Names a client.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct GroupMember {
    /// The client, of the same owner.
    pub client: Uuid,
}

/// A group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ClientGroup {
    /// Its id.
    pub id: Uuid,
    /// For people.
    pub name: String,
    /// What its members may reach.
    pub rules: Vec<Rule>,
    /// The clients in it.
    pub members: Vec<Uuid>,
}
