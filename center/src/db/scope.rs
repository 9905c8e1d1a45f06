//! Keeps owners apart: which owner's objects a caller may see, decided once from who calls.

use rusqlite::ToSql;
use rusqlite::types::{FromSql, FromSqlResult, ToSqlOutput, ValueRef};

/// An owner's row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct OwnerId(i64);

impl ToSql for OwnerId {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        self.0.to_sql()
    }
}

impl FromSql for OwnerId {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        i64::column_result(value).map(Self)
    }
}

/// What a query may see. As a parameter of SQL it is the owner's row, or NULL for every owner's:
/// `owner = coalesce(?, owner)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Scope(Option<OwnerId>);

impl Scope {
    /// An operator's, and the center's own work.
    pub(crate) const EVERY_OWNER: Self = Self(None);

    /// One owner's.
    pub(crate) const fn of(owner: OwnerId) -> Self {
        Self(Some(owner))
    }

    /// This scope, but of `owner` only. None when it does not hold that owner.
    pub(crate) fn narrow(self, owner: OwnerId) -> Option<Self> {
        (self.0.is_none() || self.0 == Some(owner)).then_some(Self(Some(owner)))
    }

    /// The owner, when it is one.
    pub(crate) const fn owner(self) -> Option<OwnerId> {
        self.0
    }
}

impl ToSql for Scope {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        self.0.to_sql()
    }
}
