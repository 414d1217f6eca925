//! What a customer may use: the rules as a table, and that what is kept in memory is what the database says.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use jiff::{SignedDuration, Timestamp};
use marketd::access::{AccessChecks, Check};
use marketd::domain::AwsIds;
use marketd::domain::access::{Access, Candidate, PlanGrant, Question, decide};
use marketd::domain::feature::{FeatureKind, WhenStale};
use marketd::domain::ledger::AgeLimits;
use marketd::domain::plan::Audience;
use marketd::domain::terms::{Anchor, Bill, EntitlementTerms, ResetPeriod};
use marketd::domain::usage::{UsageEvent, UsageSubject};
use marketd::domain::{CustomerId, FeatureId, PlanId, Quantity, Source, Status, SubscriptionId};
use marketd::sandbox::market::{Action, Order};
use marketd::store::{DirectSubscription, ProvisionCustomer};
use support::books::{Books, account};
use support::database::open_store;
use support::shop::{checks, grant, limit, monthly, provision, publish, shop, sold};

use FeatureKind::{Boolean, Metered, Numeric};

/// How a plan speaks of the feature.
#[derive(Clone)]
enum Says {
    Unmapped,
    Unpublished,
    Nothing,
    Grants(EntitlementTerms),
}

/// A subscription: where bought, where it stands, what its plan says, units bought, used in this window.
type Held = (Source, Status, Says, Option<u32>, u32);

/// What it is about, what kind the feature is, what is held, how much is asked for, the answer.
type Row = (&'static str, FeatureKind, Vec<Held>, Option<&'static str>, &'static str);

fn soft(of: u32) -> EntitlementTerms {
    EntitlementTerms { soft: true, ..limit(of) }
}

fn overage(of: u32) -> EntitlementTerms {
    EntitlementTerms { bill: Bill::Overage, ..limit(of) }
}

fn seats(of: u32) -> EntitlementTerms {
    EntitlementTerms { per_unit: true, ..limit(of) }
}

fn unlimited() -> EntitlementTerms {
    EntitlementTerms { unlimited: true, ..EntitlementTerms::default() }
}

fn on(terms: EntitlementTerms, used: u32) -> Held {
    (Source::Aws, Status::Active, Says::Grants(terms), None, used)
}

fn with(status: Status, terms: EntitlementTerms) -> Held {
    (Source::Aws, status, Says::Grants(terms), None, 0)
}

fn saying(says: Says) -> Held {
    (Source::Aws, Status::Active, says, None, 0)
}

/// The answer in a line: yes or no, why, which plan decided, and the numbers.
fn shown(access: &Access) -> String {
    let mut line = String::from(if access.has_access { "yes" } else { "no" });
    line.push_str(&format!(" {}", word(&access.reason)));
    for (name, value) in
        [("limit", access.limit), ("used", access.usage), ("left", access.remaining)]
    {
        line.extend(value.map(|value| format!(" {name} {value}")));
    }
    line.push_str(if access.unlimited { " unlimited" } else { "" });
    line.extend(access.plan_id.as_ref().map(|plan| format!(" by {plan}")));
    line.push_str(if access.stale_since.is_some() { " stale" } else { "" });
    line
}

fn word(value: &impl serde::Serialize) -> String {
    serde_json::to_value(value).unwrap().as_str().unwrap().to_owned()
}

fn answer(
    kind: FeatureKind,
    held: &[Held],
    requested: Option<&str>,
    stale: Option<WhenStale>,
) -> String {
    let ids: Vec<(SubscriptionId, PlanId)> = (1..=held.len())
        .map(|n| (SubscriptionId::new(format!("s{n}")), PlanId::new(format!("p{n}"))))
        .collect();
    let candidates: Vec<Candidate<'_>> = held
        .iter()
        .zip(&ids)
        .map(|((source, status, says, units, used), (id, plan))| Candidate {
            subscription_id: id,
            plan_id: (!matches!(says, Says::Unmapped)).then_some(plan),
            source: *source,
            status: *status,
            grant: match says {
                Says::Unmapped => PlanGrant::NoPlan,
                Says::Unpublished => PlanGrant::NotPublished,
                Says::Nothing => PlanGrant::NotIncluded,
                Says::Grants(terms) => PlanGrant::Included(terms),
            },
            units: units.map(Quantity::from_units),
            used: Quantity::from_units(*used),
            resets_at: None,
        })
        .collect();
    let feature_id = FeatureId::new("f");
    let question = Question {
        feature_id: &feature_id,
        kind,
        when_stale: stale.unwrap_or_default(),
        requested: requested.map(|text| text.parse().unwrap()),
        stale_since: stale.map(|_| "2026-11-01T00:00:00Z".parse().unwrap()),
    };
    let forward = shown(&decide(&question, &candidates));
    let mut backward = candidates;
    backward.reverse();
    assert_eq!(shown(&decide(&question, &backward)), forward, "the order makes no difference");
    forward
}

#[test]
fn conformance() {
    use Status::{Active, Canceled, Ending, Expired, Failed, Pending, Trialing};
    let has = EntitlementTerms::default;
    let direct = |terms| (Source::Direct, Active, Says::Grants(terms), None, 0);
    let bought = |units, terms| (Source::Aws, Active, Says::Grants(terms), Some(units), 0);
    #[rustfmt::skip]
    let rows: Vec<Row> = vec![
        ("nothing bought",                    Boolean, vec![],                                  None,       "no no_subscription"),
        ("a plan that has it",                Boolean, vec![on(has(), 0)],                      None,       "yes granted by p1"),
        ("a plan that lacks it",              Boolean, vec![saying(Says::Nothing)],             None,       "no feature_not_in_plan by p1"),
        ("a plan never published",            Boolean, vec![saying(Says::Unpublished)],         None,       "no plan_not_published by p1"),
        ("a dimension without a plan",        Boolean, vec![saying(Says::Unmapped)],            None,       "no dimension_not_mapped"),
        ("not yet in force",                  Boolean, vec![with(Pending, has())],              None,       "no no_subscription by p1"),
        ("a trial",                           Boolean, vec![with(Trialing, has())],             None,       "yes granted by p1"),
        ("its end announced",                 Boolean, vec![with(Ending, has())],               None,       "yes granted by p1"),
        ("cancelled",                         Boolean, vec![with(Canceled, has())],             None,       "no no_subscription by p1"),
        ("expired",                           Boolean, vec![with(Expired, has())],              None,       "no no_subscription by p1"),
        ("failed",                            Boolean, vec![with(Failed, has())],               None,       "no no_subscription by p1"),
        ("a limit means nothing to it",       Boolean, vec![on(limit(0), 9)],                   Some("5"),  "yes granted by p1"),
        ("the plan that has it decides",      Boolean, vec![saying(Says::Nothing), on(has(), 0)], None,     "yes granted by p2"),
        ("of equals the older",               Boolean, vec![on(has(), 0), on(has(), 0)],        None,       "yes granted by p1"),
        ("what lasts before what ends",       Boolean, vec![with(Ending, has()), on(has(), 0)], None,       "yes granted by p2"),
        ("a lacking plan before none",        Boolean, vec![with(Expired, has()), saying(Says::Nothing)], None, "no feature_not_in_plan by p2"),

        ("a configured limit",                Numeric, vec![on(limit(5), 0)],                   None,       "yes granted limit 5 by p1"),
        ("as much as the limit",              Numeric, vec![on(limit(5), 0)],                   Some("5"),  "yes granted limit 5 by p1"),
        ("a little more than the limit",      Numeric, vec![on(limit(5), 0)],                   Some("5.000001"), "no limit_exceeded limit 5 by p1"),
        ("a soft limit only warns",           Numeric, vec![on(soft(5), 0)],                    Some("6"),  "yes granted limit 5 by p1"),
        ("no limit at all",                   Numeric, vec![on(unlimited(), 0)],                Some("99"), "yes granted unlimited by p1"),
        ("a plan that names no limit",        Numeric, vec![on(has(), 0)],                      Some("99"), "yes granted unlimited by p1"),
        ("a limit of nothing",                Numeric, vec![on(limit(0), 0)],                   Some("1"),  "no limit_exceeded limit 0 by p1"),
        ("for each of three seats",           Numeric, vec![bought(3, seats(5))],               Some("15"), "yes granted limit 15 by p1"),
        ("one beyond three seats",            Numeric, vec![bought(3, seats(5))],               Some("16"), "no limit_exceeded limit 15 by p1"),
        ("units bought do not multiply else", Numeric, vec![bought(3, limit(5))],               Some("6"),  "no limit_exceeded limit 5 by p1"),
        ("the higher limit wins",             Numeric, vec![on(limit(5), 0), on(limit(7), 0)],  None,       "yes granted limit 7 by p2"),

        ("one is asked for if none is said",  Metered, vec![on(limit(10), 9)],                  None,       "yes granted limit 10 used 9 left 1 by p1"),
        ("used up",                           Metered, vec![on(limit(10), 10)],                 None,       "no limit_exceeded limit 10 used 10 left 0 by p1"),
        ("asking for nothing, used up",       Metered, vec![on(limit(10), 10)],                 Some("0"),  "yes granted limit 10 used 10 left 0 by p1"),
        ("asking for nothing, gone beyond",   Metered, vec![on(limit(10), 12)],                 Some("0"),  "no limit_exceeded limit 10 used 12 left 0 by p1"),
        ("exactly what is left",              Metered, vec![on(limit(10), 4)],                  Some("6"),  "yes granted limit 10 used 4 left 6 by p1"),
        ("a millionth more than is left",     Metered, vec![on(limit(10), 4)],                  Some("6.000001"), "no limit_exceeded limit 10 used 4 left 6 by p1"),
        ("more than can be counted",          Metered, vec![on(limit(10), 4)],                  Some("2147483647"), "no limit_exceeded limit 10 used 4 left 6 by p1"),
        ("a soft limit only warns",           Metered, vec![on(soft(10), 12)],                  Some("3"),  "yes granted limit 10 used 12 left 0 by p1"),
        ("beyond it is billed, not denied",   Metered, vec![on(overage(10), 12)],               Some("3"),  "yes granted limit 10 used 12 left 0 by p1"),
        ("no limit at all",                   Metered, vec![on(unlimited(), 12)],               Some("3"),  "yes granted used 12 unlimited by p1"),
        ("two seats of ten",                  Metered, vec![(Source::Aws, Active, Says::Grants(seats(10)), Some(2), 19)], None, "yes granted limit 20 used 19 left 1 by p1"),
        ("the one with room wins",            Metered, vec![on(limit(10), 10), on(limit(5), 1)], None,      "yes granted limit 5 used 1 left 4 by p2"),
        ("the one with more room wins",       Metered, vec![on(limit(10), 8), on(limit(5), 1)], None,       "yes granted limit 5 used 1 left 4 by p2"),
        ("unlimited before any limit",        Metered, vec![on(limit(1000), 0), on(unlimited(), 7)], None,  "yes granted used 7 unlimited by p2"),
        ("soft before hard",                  Metered, vec![on(limit(1000), 0), on(soft(1), 7)], None,      "yes granted limit 1 used 7 left 0 by p2"),
        ("the fullest no",                    Metered, vec![on(limit(2), 2), on(limit(9), 8)],  Some("3"),  "no limit_exceeded limit 9 used 8 left 1 by p2"),
        ("bought here and on AWS",            Metered, vec![on(limit(2), 2), direct(limit(9))], None,       "yes granted limit 9 used 0 left 9 by p2"),
    ];
    for (about, kind, held, requested, expected) in rows {
        assert_eq!(answer(kind, &held, requested, None), expected, "{kind:?}: {about}");
    }
}

#[test]
fn conformance_while_aws_is_out_of_reach() {
    use WhenStale::{Allow, Deny};
    let on_aws = || on(EntitlementTerms::default(), 0);
    let direct = || (Source::Direct, Status::Active, Says::Grants(limit(5)), None, 0);
    // what it is about | what is held | what the feature says | the answer
    let rows = [
        ("open by default", vec![on_aws()], Allow, "yes granted by p1 stale"),
        ("closed if it says so", vec![on_aws()], Deny, "no stale by p1 stale"),
        ("sold here, as true as ever", vec![direct()], Deny, "yes granted by p1"),
        ("what was sold here decides", vec![on_aws(), direct()], Deny, "yes granted by p2 stale"),
        ("a purchase may be unheard of", vec![], Allow, "no no_subscription stale"),
    ];
    for (about, held, when_stale, expected) in rows {
        assert_eq!(answer(Boolean, &held, None, Some(when_stale)), expected, "{about}");
    }
}

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

async fn ask(checks: &AccessChecks, customer: &str, feature: &str, requested: &str) -> Access {
    let requested = (!requested.is_empty()).then(|| requested.parse().unwrap());
    let check = Check { requested, license_arn: None };
    checks.check(&CustomerId::new(customer), &FeatureId::new(feature), &check).await.unwrap()
}

async fn use_up(books: &mut Books, customer: &str, feature: &str, quantity: &str) {
    let subject = UsageSubject::Feature(FeatureId::new(feature));
    let event = books.event(&CustomerId::new(customer), subject, quantity);
    assert_eq!(books.take(vec![event]).await.accepted, 1);
}

#[tokio::test]
async fn two_who_become_one_have_what_both_had_in_the_next_answer() {
    let mut books = shop().await;
    grant(&books, "own", "jobs", monthly(10, Anchor::Calendar)).await;
    publish(&books, "own", Audience::All).await;
    let checks = checks(&books).await;
    let identifier = Some(marketd::domain::CustomerIdentifier::new("X"));
    let legacy = AwsIds { customer_identifier: identifier.clone(), ..AwsIds::default() };
    let account_id = Some(marketd::domain::AccountId::new(account(1)));
    let by_account = AwsIds { account_id: account_id.clone(), ..AwsIds::default() };
    provision(&books, "abel", legacy).await;
    books.pass(SignedDuration::from_secs(1));
    provision(&books, "acme", by_account).await;
    use_up(&mut books, "acme", "jobs", "4").await;
    use_up(&mut books, "abel", "jobs", "3").await;
    assert!(!ask(&checks, "abel", "jobs", "").await.has_access);
    let told = marketd::domain::Registration {
        product_code: marketd::domain::ProductCode::new(&books.product.product_code),
        customer_identifier: identifier,
        account_id,
        license_arn: None,
        agreement_id: None,
    };
    let said = marketd::store::RegistrationDetails::default();
    let one = books.store.register_buyer(told, said, books.now()).await.unwrap();
    for id in [one.id.as_str(), "acme", "abel"] {
        let jobs = ask(&checks, id, "jobs", "").await;
        assert_eq!(shown(&jobs), "yes granted limit 10 used 7 left 3 by own", "{id}");
    }
    let sold = books.store.subscription(SubscriptionId::new("s1")).await.unwrap().unwrap();
    assert_eq!(sold.customer_id, one.id, "what the seller sold goes with them");
}

#[tokio::test]
async fn usage_counts_in_the_next_answer_and_windows_reset_by_themselves() {
    let mut books = shop().await;
    grant(&books, "own", "jobs", monthly(10, Anchor::Calendar)).await;
    grant(&books, "own", "calls", monthly(10, Anchor::Subscription)).await;
    publish(&books, "own", Audience::All).await;
    let checks = checks(&books).await;
    assert_eq!(
        shown(&ask(&checks, "acme", "jobs", "").await),
        "yes granted limit 10 used 0 left 10 by own"
    );
    use_up(&mut books, "acme", "jobs", "7.5").await;
    use_up(&mut books, "acme", "calls", "10").await;
    let jobs = ask(&checks, "acme", "jobs", "2.5").await;
    assert_eq!(shown(&jobs), "yes granted limit 10 used 7.5 left 2.5 by own");
    assert_eq!(jobs.resets_at, Some(time("2026-12-01T00:00:00Z")), "by the calendar");
    let calls = ask(&checks, "acme", "calls", "").await;
    assert_eq!(shown(&calls), "no limit_exceeded limit 10 used 10 left 0 by own");
    assert_eq!(
        calls.resets_at,
        Some(time("2026-12-10T09:05:00Z")),
        "from the subscription's start"
    );

    // Nothing runs meanwhile.
    books.aws.clock.set(time("2026-12-01T00:00:00Z"));
    let jobs = ask(&checks, "acme", "jobs", "").await;
    assert_eq!(shown(&jobs), "yes granted limit 10 used 0 left 10 by own");
    assert_eq!(jobs.resets_at, Some(time("2027-01-01T00:00:00Z")));
    assert!(!ask(&checks, "acme", "calls", "").await.has_access);
    books.aws.clock.set(time("2026-12-10T09:04:59Z"));
    use_up(&mut books, "acme", "calls", "1").await;
    assert_eq!(ask(&checks, "acme", "calls", "0").await.usage, Some("11".parse().unwrap()));
    books.aws.clock.set(time("2026-12-10T09:05:00Z"));
    use_up(&mut books, "acme", "calls", "2").await;
    assert_eq!(ask(&checks, "acme", "calls", "0").await.usage, Some("2".parse().unwrap()));
    // A clock that was set back finds what was used in the window before.
    books.aws.clock.set(time("2026-12-10T09:00:00Z"));
    assert_eq!(ask(&checks, "acme", "calls", "0").await.usage, Some("11".parse().unwrap()));
}

#[tokio::test]
async fn a_new_version_is_for_all_or_for_those_who_come() {
    let books = shop().await;
    let checks = checks(&books).await;
    assert_eq!(word(&ask(&checks, "acme", "seats", "").await.reason), "plan_not_published");
    grant(&books, "own", "seats", limit(5)).await;
    assert_eq!(word(&ask(&checks, "acme", "seats", "").await.reason), "plan_not_published");
    publish(&books, "own", Audience::All).await;
    assert_eq!(shown(&ask(&checks, "acme", "seats", "").await), "yes granted limit 5 by own");

    grant(&books, "own", "seats", limit(3)).await;
    assert_eq!(
        shown(&ask(&checks, "acme", "seats", "").await),
        "yes granted limit 5 by own",
        "a draft"
    );
    let preview = books.store.preview_plan(PlanId::new("own"), None::<Audience>).await.unwrap();
    assert_eq!((preview.version, preview.groups.len()), (2, 1));
    assert_eq!(preview.groups[0].customers, [CustomerId::new("acme")]);
    assert_eq!(
        (preview.groups[0].differences.gains.len(), preview.groups[0].differences.loses.len()),
        (0, 1)
    );
    publish(&books, "own", Audience::New).await;
    provision(&books, "late", AwsIds::default()).await;
    books.store.put_direct(sold("s2", "late", "own"), books.now()).await.unwrap();
    assert_eq!(shown(&ask(&checks, "acme", "seats", "").await), "yes granted limit 5 by own");
    assert_eq!(shown(&ask(&checks, "late", "seats", "").await), "yes granted limit 3 by own");

    grant(&books, "own", "seats", limit(4)).await;
    publish(&books, "own", Audience::New).await;
    let limits = async |customer| ask(&checks, customer, "seats", "").await.limit.unwrap();
    assert_eq!(
        (limits("acme").await, limits("late").await),
        ("5".parse().unwrap(), "3".parse().unwrap())
    );
    publish(&books, "own", Audience::All).await;
    assert_eq!(
        (limits("acme").await, limits("late").await),
        ("4".parse().unwrap(), "4".parse().unwrap())
    );
    // Who archives a plan keeps those who have it.
    books.store.archive_plan(PlanId::new("own"), books.now()).await.unwrap();
    assert_eq!(limits("acme").await, "4".parse().unwrap());
    let refused = books.store.put_direct(sold("s3", "late", "own"), books.now()).await.unwrap_err();
    assert!(refused.to_string().contains("archived"), "{refused}");
}

#[tokio::test]
async fn the_dates_of_a_direct_subscription_need_nobody_to_act_on_them() {
    let books = shop().await;
    grant(&books, "own", "sso", EntitlementTerms::default()).await;
    publish(&books, "own", Audience::All).await;
    let checks = checks(&books).await;
    let begins = books.now() + SignedDuration::from_hours(1);
    let ends = begins + SignedDuration::from_hours(1);
    provision(&books, "soon", AwsIds::default()).await;
    let dated = DirectSubscription {
        starts_at: Some(begins),
        ends_at: Some(ends),
        ..sold("s2", "soon", "own")
    };
    let written = books.store.put_direct(dated, books.now()).await.unwrap();
    assert_eq!(written.terms.status, Status::Pending);
    let has = async || ask(&checks, "soon", "sso", "").await.has_access;
    assert!(!has().await);
    books.aws.clock.set(begins);
    assert!(has().await);
    books.aws.clock.set(ends - SignedDuration::from_millis(1));
    assert!(has().await);
    books.aws.clock.set(ends);
    assert!(!has().await);
    assert_eq!(ask(&checks, "soon", "sso", "").await.subscription_status, Some(Status::Expired));
    // What is kept of it follows.
    assert_eq!(books.store.update_direct_statuses(books.now()).await.unwrap(), 1);
    let kept = books.store.subscription(SubscriptionId::new("s2")).await.unwrap().unwrap();
    assert_eq!((kept.terms.status, kept.terms.ended_at), (Status::Expired, Some(ends)));
    assert_eq!(books.store.update_direct_statuses(books.now()).await.unwrap(), 0);
}

#[tokio::test]
async fn aws_out_of_reach_for_long_is_said() {
    let books = shop().await;
    grant(&books, "own", "sso", EntitlementTerms::default()).await;
    publish(&books, "own", Audience::All).await;
    provision(&books, "nobody", AwsIds::default()).await;
    let checks = checks(&books).await;
    let began = books.now();
    books.health.report("entitlements", Ok(()), began);
    let since = async |customer| ask(&checks, customer, "sso", "").await.stale_since;
    books.pass(SignedDuration::from_hours(30));
    assert_eq!(since("nobody").await, None, "nobody has had to ask");
    books.health.report("entitlements", Err("down"), books.now());
    assert_eq!(since("nobody").await, Some(began));
    assert_eq!(since("acme").await, None, "sold here");
    books.health.report("entitlements", Ok(()), books.now());
    assert_eq!(since("nobody").await, None);
}

#[tokio::test]
async fn what_another_process_writes_is_seen_within_a_second() {
    let books = shop().await;
    grant(&books, "own", "sso", EntitlementTerms::default()).await;
    publish(&books, "own", Audience::All).await;
    let checks = checks(&books).await;
    assert!(ask(&checks, "acme", "sso", "").await.has_access);
    let other = open_store(&books.database());
    other.cancel_direct(SubscriptionId::new("s1"), None, books.now()).await.unwrap();
    let written = std::time::Instant::now();
    while ask(&checks, "acme", "sso", "").await.has_access {
        assert!(written.elapsed() < std::time::Duration::from_secs(30), "it is never seen");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_hard_limit_holds_whoever_leaves_and_comes_back() {
    for anchor in [Anchor::Calendar, Anchor::Subscription] {
        let mut books = shop().await;
        let terms = EntitlementTerms { reset: Some(ResetPeriod::Day), anchor, ..limit(5) };
        grant(&books, "pro", "calls", terms).await;
        publish(&books, "pro", Audience::All).await;
        let checks = checks(&books).await;
        let buyer = account(0);
        books.act(&buyer, Action::Purchase(books.order().with("pro", 1)));
        books.hear().await;
        let customer = books.customer(0).await;
        for round in 0..3 {
            if round > 0 {
                books.pass_minutes(1);
                let leaves = Order { immediate: true, ..books.order() };
                books.act(&buyer, Action::Cancel(leaves));
                books.hear().await;
                books.pass_minutes(1);
                books.act(&buyer, Action::Purchase(books.order().with("pro", 1)));
                books.hear().await;
            } else {
                let subject = UsageSubject::Feature(FeatureId::new("calls"));
                let event = books.event(&customer, subject, "5");
                assert_eq!(books.take(vec![event]).await.accepted, 1);
            }
            let told = ask(&checks, customer.as_str(), "calls", "").await;
            assert!(!told.has_access, "{anchor:?} {round}: {told:?}");
            assert_eq!(told.usage, Some(Quantity::from_units(5)), "{anchor:?} {round}");
        }
    }
}

/// Whatever is done in whatever order, what is kept in memory answers as the database does.
#[tokio::test]
async fn what_is_kept_answers_as_what_is_stored() {
    for seed in 0..25 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut books = shop().await;
        grant(&books, "own", "jobs", monthly(10, Anchor::Calendar)).await;
        publish(&books, "own", Audience::All).await;
        publish(&books, "pro", Audience::All).await;
        for customer in ["beta", "gamma"] {
            provision(&books, customer, AwsIds::default()).await;
        }
        let kept = checks(&books).await;
        let mut log = Vec::new();
        for _ in 0..60 {
            log.push(step(&mut books, &mut random).await);
            // Nothing in memory: read anew, since a store tells only the first of its changes.
            let fresh = checks(&books).await;
            for customer in ["acme", "beta", "gamma", "nobody"] {
                for feature in ["sso", "seats", "jobs", "calls", "none"] {
                    let (held, read) = (
                        ask(&kept, customer, feature, "").await,
                        ask(&fresh, customer, feature, "").await,
                    );
                    assert_eq!(held, read, "seed {seed}: {customer} {feature} after {log:#?}");
                }
            }
        }
    }
}

async fn step(books: &mut Books, random: &mut fastrand::Rng) -> String {
    match random.u32(0..12) {
        0..3 => use_some(books, random).await,
        3..6 => change_a_plan(books, random).await,
        6..8 => sell(books, random).await,
        8..10 => {
            books.pass_minutes(random.i64(1..400));
            books.run_pass().await;
            books.store.update_direct_statuses(books.now()).await.unwrap();
            format!("it is {}", books.now())
        }
        _ => at_aws(books, random).await,
    }
}

fn any(random: &mut fastrand::Rng, of: &[&'static str]) -> &'static str {
    of[random.usize(0..of.len())]
}

const CUSTOMERS: &[&str] = &["acme", "beta", "gamma"];

async fn use_some(books: &mut Books, random: &mut fastrand::Rng) -> String {
    let (customer, feature) = (any(random, CUSTOMERS), any(random, &["jobs", "calls"]));
    let subject = UsageSubject::Feature(FeatureId::new(feature));
    let mut event = books.event(&CustomerId::new(customer), subject, "1.5");
    if random.bool() {
        return consume(books, event).await;
    }
    let back = SignedDuration::from_mins(if random.bool() { random.i64(0..3_000) } else { 0 });
    event.timestamp = Some(books.now() - back);
    let taken = books.take(vec![event]).await;
    format!("{customer} used {feature} {back:?} ago: {}", taken.accepted)
}

/// What is consumed now is what a check would allow now, and counts in the next one.
async fn consume(books: &Books, event: UsageEvent) -> String {
    let (customer, feature) = (event.customer_id.clone(), event.feature().unwrap().clone());
    let (customer, feature) = (customer.as_str(), feature.as_str());
    let fresh = checks(books).await;
    let before = ask(&fresh, customer, feature, "1.5").await;
    let consumed = fresh.consume(event, AgeLimits::default()).await.unwrap();
    let fresh = checks(books).await;
    let after = ask(&fresh, customer, feature, "0").await;
    match consumed {
        Ok(consumption) => {
            let access = &consumption.access;
            assert_eq!(consumption.accepted, before.has_access, "{before:?} {consumption:?}");
            assert_eq!(access.reason, before.reason, "{before:?} {consumption:?}");
            assert_eq!((access.usage, access.remaining), (after.usage, after.remaining));
            format!("{customer} consumed {feature}: {}", consumption.accepted)
        }
        Err(rejection) => {
            assert_eq!(after.usage, before.usage, "{rejection:?}");
            format!("{customer} could not consume {feature}: {}", rejection.code)
        }
    }
}

async fn change_a_plan(books: &Books, random: &mut fastrand::Rng) -> String {
    let plan = any(random, &["own", "pro", "enterprise"]);
    if random.u32(0..3) == 0 {
        let to = if random.bool() { Audience::All } else { Audience::New };
        publish(books, plan, to).await;
        return format!("{plan} published to {to:?}");
    }
    let resets = [None, Some(ResetPeriod::Hour), Some(ResetPeriod::Day)];
    let reset = resets[random.usize(0..resets.len())];
    let anchor = if random.bool() { Anchor::Calendar } else { Anchor::Subscription };
    let most = limit(random.u32(0..20));
    let feature = any(random, &["sso", "seats", "jobs", "calls"]);
    let terms = match feature {
        "sso" => EntitlementTerms::default(),
        "seats" => most,
        _ => EntitlementTerms { reset, anchor, ..most },
    };
    let line = format!("{plan} grants {feature}: {terms:?}");
    grant(books, plan, feature, terms).await;
    line
}

async fn sell(books: &Books, random: &mut fastrand::Rng) -> String {
    let customer = any(random, CUSTOMERS);
    let id = format!("{customer}-{}", random.u32(0..3));
    let hours = |random: &mut fastrand::Rng, hours| {
        random.bool().then(|| books.now() + SignedDuration::from_hours(hours))
    };
    let done = if random.bool() {
        let ends_at = hours(random, 5);
        let request = DirectSubscription { ends_at, ..sold(&id, customer, "own") };
        books.store.put_direct(request, books.now()).await
    } else {
        let at = hours(random, 2);
        books.store.cancel_direct(SubscriptionId::new(&id), at, books.now()).await
    };
    format!("{id}: {:?}", done.map(|it| it.terms.status))
}

async fn at_aws(books: &mut Books, random: &mut fastrand::Rng) -> String {
    let number = random.usize(0..2);
    let buyer = account(number);
    let line = if random.bool() {
        let order = books.order().with("pro", 2);
        let action =
            if random.bool() { Action::Purchase(order) } else { Action::Cancel(books.order()) };
        let now = books.now();
        let done = books.aws.market.lock().unwrap().act(now, &buyer, action).is_ok();
        format!("{buyer} at AWS: {done}")
    } else {
        let customer = any(random, CUSTOMERS);
        let account_id = Some(marketd::domain::AccountId::new(&buyer));
        let request = ProvisionCustomer {
            id: CustomerId::new(customer),
            name: None,
            email: None,
            aws: AwsIds { account_id, ..AwsIds::default() },
            metadata: None,
        };
        let done = books.store.provision_customer(request, books.now()).await.is_ok();
        format!("{customer} claims {buyer}: {done}")
    };
    books.hear().await;
    line
}
