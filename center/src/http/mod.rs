//! The HTTP API: TLS and connections, who calls, what each path does, how a request fails.
//!
//! Handlers check and translate; what happens is decided in `enrolment`, `revocation`, `lists`, `composer`
//! and `logs`. The OpenAPI document is generated from the same annotations that route.

pub(crate) mod accept;
pub(crate) mod admin;
pub(crate) mod body;
pub(crate) mod caller;
pub(crate) mod client;
pub(crate) mod connection;
pub(crate) mod edge;
pub(crate) mod est;
pub(crate) mod failure;
pub(crate) mod firmware;
pub(crate) mod lists;
pub(crate) mod logs;
pub(crate) mod places;
pub(crate) mod tls;
pub(crate) mod wait;

use crate::center::Center;
use axum::Router;
use failure::Failure;
use std::sync::Arc;
use utoipa::OpenApi;
use utoipa::openapi::OpenApi as Document;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

#[derive(OpenApi)]
#[openapi(info(
    title = "Verona center",
    description = "Enrolment, configuration, revocation lists and logs of Verona edges and clients. \
        HTTPS with TLS 1.3 only; who may call is decided by the TLS client certificate. \
        Failures are problem documents (RFC 9457)."
))]
struct Api;

/// The routes.
pub(crate) fn router(center: Arc<Center>) -> Router {
    let (router, _) = routes_and_document();
    router
        .fallback(|| async { Failure::not_found("there is nothing at this path") })
        .method_not_allowed_fallback(|| async { Failure::method() })
        .with_state(center)
}

/// The OpenAPI document.
pub(crate) fn document() -> Document {
    routes_and_document().1
}

fn routes_and_document() -> (Router<Arc<Center>>, Document) {
    OpenApiRouter::with_openapi(Api::openapi())
        .routes(routes!(est::simple_enroll))
        .routes(routes!(est::simple_reenroll))
        .routes(routes!(est::ca_certs))
        .routes(routes!(edge::challenge))
        .routes(routes!(edge::tunnel_key))
        .routes(routes!(edge::config))
        .routes(routes!(edge::ack))
        .routes(routes!(edge::heartbeat))
        .routes(routes!(logs::ingest))
        .routes(routes!(lists::crl))
        .routes(routes!(firmware::file))
        .routes(routes!(client::enroll))
        .routes(routes!(client::renew))
        .routes(routes!(client::profile))
        .routes(routes!(admin::owners::list, admin::owners::create))
        .routes(routes!(admin::owners::crls))
        .routes(routes!(admin::owners::rotate_psk))
        .routes(routes!(admin::edges::list, admin::edges::create))
        .routes(routes!(admin::edges::show))
        .routes(routes!(admin::edges::network, admin::edges::set_network))
        .routes(routes!(admin::edges::logs, admin::edges::set_logs))
        .routes(routes!(admin::edges::allow_shrink))
        .routes(routes!(admin::firmware::rings, admin::firmware::set_ring))
        .routes(routes!(admin::firmware::of_edge, admin::firmware::change))
        .routes(routes!(admin::stock::list, admin::stock::create))
        .routes(routes!(admin::clients::list, admin::clients::create))
        .routes(routes!(admin::clients::show))
        .routes(routes!(admin::clients::disable))
        .routes(routes!(admin::clients::enable))
        .routes(routes!(admin::clients::revoke))
        .routes(routes!(admin::groups::list, admin::groups::create))
        .routes(routes!(admin::groups::show, admin::groups::remove))
        .routes(routes!(admin::groups::rules))
        .routes(routes!(admin::groups::join))
        .routes(routes!(admin::groups::leave))
        .routes(routes!(admin::admins::create))
        .routes(routes!(admin::logs::page))
        .routes(routes!(admin::logs::chains))
        .routes(routes!(admin::logs::alarms))
        .split_for_parts()
}
