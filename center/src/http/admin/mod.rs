//! Administration: operators over all owners, admins within their own.

pub(crate) mod admins;
pub(crate) mod clients;
pub(crate) mod edges;
pub(crate) mod firmware;
pub(crate) mod groups;
pub(crate) mod logs;
pub(crate) mod owners;
pub(crate) mod stock;

use super::failure::Failure;
use crate::center::Center;
use crate::db::owners::Owner;
use crate::db::{Scope, owners as db_owners};
use verona_contract::config::OwnerCode;

/// Names for people: 1 to 100 characters, no control characters.
fn check_name(what: &str, name: &str) -> Result<(), Failure> {
    if (1..=100).contains(&name.chars().count()) && !name.chars().any(char::is_control) {
        Ok(())
    } else {
        Err(Failure::bad(format!("{what} must be 1 to 100 characters without control characters")))
    }
}

/// The owner of a code, within a scope.
async fn owner_of(center: &Center, scope: Scope, code: OwnerCode) -> Result<Owner, Failure> {
    let wanted = code.clone();
    let owner = center.db.read(move |db| db_owners::by_code(db, scope, &wanted)).await?;
    owner.ok_or_else(|| Failure::not_found(format!("no owner {code}")))
}
