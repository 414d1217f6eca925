//! The API's description, which `/openapi.json` answers: made from the handlers and their types.

use std::borrow::Cow;
use std::collections::BTreeMap;

use axum::http::Method;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::schema::{
    KnownFormat, ObjectBuilder, OneOfBuilder, Schema, SchemaFormat, Type,
};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{
    Components, OpenApi as Document, RefOr, Response, ResponseBuilder, SecurityRequirement,
    ServerBuilder,
};
use utoipa::{IntoResponses, Modify, OpenApi, PartialSchema, ToSchema};

use crate::domain::api_token::{Permission, Role};
use crate::domain::manifest::TermsEntry;
use crate::domain::plan::PlanEntitlement;
use crate::domain::terms::EntitlementTerms;
use crate::domain::{ClockHour, Id, NetQuantity, Quantity, Status, Subscription, SubscriptionView};

/// The parts of the description beside the operations.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "marketd",
        description = "What customers bought, on AWS Marketplace or from the seller, what they may use, and what is billed.\n\nErrors are problem details (RFC 9457) with a stable `type`. Lists are paged by `cursor`. Times are RFC 3339 in UTC. Quantities are decimals with at most six places: those of usage and of the ledger are strings, limits and what is left of them are numbers, and either is taken. Ids that you choose, of products, plans, features, customers and subscriptions, are 1 to 128 characters, not blank, none of them a control character; those of new products, plans and features have letters, digits and any of - _ . : / alone.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    components(schemas(Quantity, NetQuantity, ProblemDetails)),
    modifiers(&Token),
    tags(
        (name = "entitlements", description = "What customers may use"),
        (name = "usage", description = "What they used"),
        (name = "customers", description = "Who they are"),
        (name = "registrations", description = "How they come from AWS"),
        (name = "subscriptions", description = "What they bought"),
        (name = "plans", description = "What that grants"),
        (name = "features", description = "What the application gates"),
        (name = "catalogue", description = "All of it as a file"),
        (name = "listings", description = "What AWS sells"),
        (name = "products", description = "Listings that were imported"),
        (name = "metering", description = "What is billed to AWS"),
        (name = "notifications", description = "What AWS told"),
        (name = "events", description = "What the application is told"),
        (name = "integration", description = "The seller's AWS account"),
        (name = "operations", description = "For those who watch the daemon"),
    )
)]
pub(super) struct Api;

/// The bearer token, which every path but the probes asks for where one is set.
struct Token;

impl Modify for Token {
    fn modify(&self, document: &mut Document) {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("token", SecurityScheme::Http(scheme));
        let none: [&str; 0] = [];
        document.security =
            Some(vec![SecurityRequirement::new("token", none), SecurityRequirement::default()]);
    }
}

/// Completes what the handlers leave out: the server's address, and a description of each answer by its type.
pub(super) fn complete(document: &mut Document) {
    let here = ServerBuilder::new().url("/").description(Some("Where this document is served"));
    document.servers = Some(vec![here.build()]);
    let Some(components) = &document.components else { return };
    for path in document.paths.paths.values_mut() {
        for (_, operation) in operations_of(path) {
            for response in operation.responses.responses.values_mut() {
                let RefOr::T(response) = response else { continue };
                if response.description.is_empty() {
                    response.description = description_of(response, components);
                }
            }
        }
    }
}

/// Lists the operations of a path, each with its method.
fn operations_of(path: &mut PathItem) -> impl Iterator<Item = (Method, &mut Operation)> {
    [
        (Method::GET, &mut path.get),
        (Method::PUT, &mut path.put),
        (Method::POST, &mut path.post),
        (Method::DELETE, &mut path.delete),
        (Method::PATCH, &mut path.patch),
        (Method::HEAD, &mut path.head),
    ]
    .into_iter()
    .filter_map(|(method, operation)| operation.as_mut().map(|operation| (method, operation)))
}

/// Adds to each operation which roles may do it, as `x-roles`.
pub(super) fn describe_permission(document: &mut Document, permission: Permission) {
    let roles: Vec<&str> = permission.roles().map(Role::as_str).collect();
    for path in document.paths.paths.values_mut() {
        for (_, operation) in operations_of(path) {
            let extensions = operation.extensions.get_or_insert_default();
            extensions.insert("x-roles".to_owned(), serde_json::json!(roles));
        }
    }
}

/// The ids of operations by method and path.
pub(super) type Operations = BTreeMap<(Method, String), String>;

/// Returns the id of each operation.
pub(super) fn operation_ids(document: &mut Document) -> Operations {
    let mut operations = Operations::new();
    for (template, path) in &mut document.paths.paths {
        for (method, operation) in operations_of(path) {
            let id = operation.operation_id.clone();
            operations.extend(id.map(|id| ((method, template.clone()), id)));
        }
    }
    operations
}

/// The description of an answer that nothing describes; a test sees to it that there is none.
const UNDESCRIBED: &str = "The answer";

/// Describes an answer by the type of its body.
fn description_of(response: &Response, components: &Components) -> String {
    let schema = response.content.values().find_map(|content| match content {
        RefOr::T(content) => content.schema.as_ref(),
        RefOr::Ref(_) => None,
    });
    let described = match schema {
        Some(RefOr::Ref(reference)) => {
            let name = reference.ref_location.rsplit('/').next().unwrap_or_default();
            components.schemas.get(name).and_then(words_of)
        }
        _ => None,
    };
    described.unwrap_or_else(|| UNDESCRIBED.to_owned())
}

fn words_of(schema: &RefOr<Schema>) -> Option<String> {
    match schema {
        RefOr::T(Schema::Object(object)) => object.description.clone(),
        RefOr::T(Schema::AllOf(all)) => all.description.clone(),
        RefOr::T(Schema::OneOf(one)) => one.description.clone(),
        _ => None,
    }
}

/// Problem details of an error (RFC 9457).
#[derive(ToSchema)]
#[expect(dead_code, reason = "described here, written by `Problem`")]
pub(super) struct ProblemDetails {
    /// The kind of the problem, for programs; it never changes.
    #[schema(example = "urn:marketd:problem:not-found")]
    r#type: String,
    /// The kind of the problem in words.
    title: String,
    /// The HTTP status.
    status: u16,
    /// What happened, to what, and what to do next.
    detail: String,
}

/// Every answer that is not a success.
pub(super) struct Problems;

impl IntoResponses for Problems {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let schema = utoipa::openapi::Ref::from_schema_name("ProblemDetails");
        let content = utoipa::openapi::ContentBuilder::new().schema(Some(schema)).build();
        let response = ResponseBuilder::new()
            .description("A problem: its `type` says which, its `detail` what to do")
            .content("application/problem+json", content)
            .build();
        BTreeMap::from([("default".to_owned(), response.into())])
    }
}

impl<K> PartialSchema for Id<K> {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new().schema_type(Type::String).min_length(Some(1)).build().into()
    }
}

impl<K> ToSchema for Id<K> {
    fn name() -> Cow<'static, str> {
        "Id".into()
    }
}

impl PartialSchema for ClockHour {
    fn schema() -> RefOr<Schema> {
        date_time().description(Some("The start of a clock hour")).build().into()
    }
}

fn date_time() -> ObjectBuilder {
    let format = SchemaFormat::KnownFormat(KnownFormat::DateTime);
    ObjectBuilder::new().schema_type(Type::String).format(Some(format))
}

impl ToSchema for ClockHour {}

impl PartialSchema for Quantity {
    fn schema() -> RefOr<Schema> {
        let digits = ObjectBuilder::new().schema_type(Type::String).pattern(Some(DIGITS));
        digits.description(Some("A decimal with at most six places, as a string")).build().into()
    }
}

impl ToSchema for Quantity {}

impl PartialSchema for NetQuantity {
    fn schema() -> RefOr<Schema> {
        let digits = ObjectBuilder::new().schema_type(Type::String).pattern(Some(NET_DIGITS));
        let what = "A decimal with at most six places, as a string; it may be below zero";
        digits.description(Some(what)).build().into()
    }
}

impl ToSchema for NetQuantity {}

/// A quantity as it is accepted: in either form.
pub(super) enum GivenQuantity {}

const DIGITS: &str = r"^[0-9]+(\.[0-9]+)?$";
const NET_DIGITS: &str = r"^-?[0-9]+(\.[0-9]+)?$";

impl PartialSchema for GivenQuantity {
    fn schema() -> RefOr<Schema> {
        let number = ObjectBuilder::new().schema_type(Type::Number).minimum(Some(0));
        let text = ObjectBuilder::new().schema_type(Type::String).pattern(Some(DIGITS));
        let either = OneOfBuilder::new()
            .item(number)
            .item(text)
            .description(Some(
                "A decimal with at most six places: a number, or its digits as a string",
            ))
            .build();
        Schema::OneOf(either).into()
    }
}

impl ToSchema for GivenQuantity {}

impl PartialSchema for Status {
    fn schema() -> RefOr<Schema> {
        let words = Status::ALL.into_iter().map(Status::as_str);
        ObjectBuilder::new().schema_type(Type::String).enum_values(Some(words)).build().into()
    }
}

impl ToSchema for Status {}

impl PartialSchema for Subscription {
    fn schema() -> RefOr<Schema> {
        SubscriptionView::schema()
    }
}

impl ToSchema for Subscription {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        SubscriptionView::schemas(schemas);
    }
}

/// The terms' schema, with the feature that they are of.
impl PartialSchema for PlanEntitlement {
    fn schema() -> RefOr<Schema> {
        let mut object = match EntitlementTerms::schema() {
            RefOr::T(Schema::Object(object)) => object,
            other => return other,
        };
        let feature = ObjectBuilder::new().schema_type(Type::String).min_length(Some(1));
        let feature = feature.description(Some("The feature"));
        object.properties.insert("feature_id".into(), feature.into());
        object.required.push("feature_id".into());
        object.description = Some("What a plan grants of a feature".into());
        Schema::Object(object).into()
    }
}

impl ToSchema for PlanEntitlement {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        EntitlementTerms::schemas(schemas);
    }
}

impl PartialSchema for TermsEntry {
    fn schema() -> RefOr<Schema> {
        EntitlementTerms::schema()
    }
}

impl ToSchema for TermsEntry {
    fn name() -> Cow<'static, str> {
        EntitlementTerms::name()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        EntitlementTerms::schemas(schemas);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    #[test]
    fn the_description_leaves_nothing_undescribed() {
        let document = serde_json::to_value(crate::http::description()).unwrap();
        assert!(document["servers"][0]["url"].is_string());
        let mut lacking = Vec::new();
        for (path, methods) in document["paths"].as_object().unwrap() {
            for (method, operation) in methods.as_object().unwrap() {
                let mut check = |what: &str, text: &Value| {
                    let text = text.as_str().unwrap_or_default();
                    if text.is_empty()
                        || text == super::UNDESCRIBED
                        || text.contains('\n') && what == "summary"
                    {
                        lacking.push(format!("{method} {path}: {what}"));
                    }
                };
                check("summary", &operation["summary"]);
                check("description", &operation["description"]);
                for (status, answer) in operation["responses"].as_object().unwrap() {
                    check(status, &answer["description"]);
                }
            }
        }
        assert_eq!(lacking, Vec::<String>::new());
    }

    /// Checks that bodies are JSON or forms: generators take these, and warn of anything else.
    #[test]
    fn every_body_is_of_a_kind_that_generators_take() {
        let document = serde_json::to_value(crate::http::description()).unwrap();
        for (path, methods) in document["paths"].as_object().unwrap() {
            for (method, operation) in methods.as_object().unwrap() {
                for kind in operation["requestBody"]["content"].as_object().into_iter().flatten() {
                    let taken = ["application/json", "application/x-www-form-urlencoded"];
                    assert!(taken.contains(&kind.0.as_str()), "{method} {path}: {}", kind.0);
                }
            }
        }
    }
}
