//! The webhooks of the API's description: what is posted to the seller's application.

use serde_json::json;
use utoipa::openapi::path::{
    HttpMethod, OperationBuilder, Parameter, ParameterBuilder, ParameterIn, PathItem, PathsBuilder,
};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::{KnownFormat, Object, ObjectBuilder, SchemaFormat, Type};
use utoipa::openapi::{ContentBuilder, OpenApi, Ref, Required, ResponseBuilder};

use crate::domain::event::EventType;
use crate::events;

/// The headers of a post, as the Standard Webhooks specification has them.
const HEADERS: [(&str, &str); 3] = [
    ("webhook-id", "The event's id, the same however often it is posted"),
    ("webhook-timestamp", "The seconds since 1970 of this attempt"),
    (
        "webhook-signature",
        "`v1,` and the base64 of the HMAC-SHA256 of id, timestamp and body, with dots between",
    ),
];

/// Describes every type of event, as it is posted.
pub(super) fn describe_webhooks(document: &mut OpenApi) {
    let components = document.components.get_or_insert_default();
    let mut webhooks = PathsBuilder::new();
    for kind in EventType::ALL {
        let shape = events::data(kind);
        let own = (shape.name.clone(), shape.schema);
        for (name, schema) in shape.others.into_iter().chain([own]) {
            components.schemas.entry(name).or_insert(schema);
        }
        let operation = OperationBuilder::new()
            .operation_id(Some(operation_id(kind)))
            .tag("events")
            .summary(Some(kind.as_str()))
            .description(Some(events::sent(kind)))
            .parameters(Some(HEADERS.map(header)))
            .request_body(Some(body(kind, &shape.name)))
            .response("2XX", ResponseBuilder::new().description("The event was taken").build());
        webhooks = webhooks.path(kind.as_str(), PathItem::new(HttpMethod::Post, operation));
    }
    document.webhooks = Some(webhooks.build());
}

/// Returns the id of an event's operation, as `onCustomerCreated`.
fn operation_id(kind: EventType) -> String {
    let mut id = String::from("on");
    let mut is_first = true;
    for character in kind.as_str().chars() {
        match character {
            '.' | '_' => is_first = true,
            character if std::mem::take(&mut is_first) => id.push(character.to_ascii_uppercase()),
            character => id.push(character),
        }
    }
    id
}

fn header((name, words): (&str, &str)) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Header)
        .required(Required::True)
        .description(Some(words))
        .schema(Some(text()))
        .build()
}

fn text() -> Object {
    ObjectBuilder::new().schema_type(Type::String).build()
}

fn body(kind: EventType, data: &str) -> utoipa::openapi::request_body::RequestBody {
    let name = kind.as_str();
    let time = ObjectBuilder::new()
        .schema_type(Type::String)
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)));
    let one = ObjectBuilder::new().schema_type(Type::String).enum_values(Some([name]));
    let schema = ObjectBuilder::new()
        .property("type", one)
        .property("timestamp", time)
        .property("data", Ref::from_schema_name(data))
        .required("type")
        .required("timestamp")
        .required("data")
        .build();
    let example = json!({
        "type": name, "timestamp": "2026-11-10T09:00:00Z", "data": events::example(kind),
    });
    let content = ContentBuilder::new().schema(Some(schema)).example(Some(example)).build();
    RequestBodyBuilder::new()
        .content("application/json", content)
        .required(Some(Required::True))
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_events_and_answers_name_alike_is_alike() {
        let document = crate::http::description();
        let components = document.components.unwrap();
        let webhooks = document.webhooks.unwrap();
        assert_eq!(webhooks.paths.len(), EventType::ALL.len());
        for kind in EventType::ALL {
            let shape = events::data(kind);
            let own = (shape.name, shape.schema);
            for (name, schema) in shape.others.into_iter().chain([own]) {
                assert_eq!(json!(components.schemas[&name]), json!(schema), "{name} of {kind:?}");
            }
        }
    }
}
