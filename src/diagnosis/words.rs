//! The words of findings.

use super::Action::{
    CarryForward, ConfirmEndings, Connect, Discard, Import, Publish, Replay, ResumeWebhook, Retry,
    WriteOff,
};
use super::Diagnosis;

pub(super) const PARKED_USAGE: Diagnosis = Diagnosis {
    happened: "AWS did not take some usage, or it could not be sent.",
    means: "Its units are not billed until somebody decides.",
    remedy: "Read the reason of each record; it says what to do. Many of one reason are resolved together.",
    actions: &[Retry, CarryForward, WriteOff],
};

pub(super) const INTEGRATION_REMOVED: Diagnosis = Diagnosis {
    happened: "The integration was removed.",
    means: "Nothing is billed, and no purchase or end is seen. Customers keep what they had.",
    remedy: "Connect a role, if marketd is to work with AWS again.",
    actions: &[Connect],
};

pub(super) const PART_FAILING: Diagnosis = Diagnosis {
    happened: "A part of the daemon does not get its work done.",
    means: "What it is for stands still: `metering` bills; `queue`, `entitlements`, `agreements` and `sweep` see purchases and ends; `catalog` sees changes of listings; `webhook` tells your application.",
    remedy: "The detail says what went wrong. It is tried again by itself; a person is needed where credentials, permissions or an address are wrong.",
    actions: &[],
};

pub(super) const PERMISSION_MISSING: Diagnosis = Diagnosis {
    happened: "The role may not make a call that is needed.",
    means: "What the call is for stands still: without BatchMeterUsage nothing is billed, without GetEntitlements or SearchAgreements no purchase or end is seen.",
    remedy: "Give the role the permission: `marketd integration iam-policy` shows the whole policy. It is noticed when the call succeeds.",
    actions: &[Connect],
};

pub(super) const UNKNOWN_HOURS: Diagnosis = Diagnosis {
    happened: "AWS may know more of some hours than the ledger, since an older copy of the database was put back.",
    means: "Late usage of these hours is parked, since it may be billed already.",
    remedy: "Compare what is parked as `restored` or `duplicate_conflict` with AWS, as docs/backups.md says.",
    actions: &[CarryForward, WriteOff],
};

pub(super) const DIMENSION_LOST: Diagnosis = Diagnosis {
    happened: "A dimension that usage is billed by is gone from the listing.",
    means: "New usage of it is parked once AWS refuses it, and nothing of it is billed.",
    remedy: "Put the dimension back into the listing at AWS, or import the listing anew and say which other dimension bills the feature.",
    actions: &[Import],
};

pub(super) const SOLD_DIMENSION_LOST: Diagnosis = Diagnosis {
    happened: "A dimension that live subscriptions are on is gone from the listing.",
    means: "Who has it keeps it until their agreement ends. Nobody can buy it, and it may not be renewed.",
    remedy: "If it is a mistake, put the dimension back into the listing at AWS. If you sell it no more, archive its plan once nobody has it.",
    actions: &[],
};

pub(super) const QUARANTINED_NOTIFICATIONS: Diagnosis = Diagnosis {
    happened: "Messages came that cannot be read, or are not known to be AWS's.",
    means: "What they say is not applied. If it is news of buyers, the sweep finds the same by asking AWS, later.",
    remedy: "Look at each: its reason and body are kept. Replay those that are AWS's, and discard the others, with a note.",
    actions: &[Replay, Discard],
};

pub(super) const ENDINGS_HELD: Diagnosis = Diagnosis {
    happened: "AWS suddenly lists far fewer subscriptions, or dimensions, than before.",
    means: "Nothing is ended: if AWS is right, customers keep access that they no longer pay for; if it is wrong, they keep what they paid for.",
    remedy: "Compare with AWS's agreements. If they did end, confirm the endings; else wait, it is let go by itself when AWS lists them again.",
    actions: &[ConfirmEndings],
};

pub(super) const AWAITED_DRAFT: Diagnosis = Diagnosis {
    happened: "A plan that customers have bought is not published.",
    means: "They have access to nothing by it.",
    remedy: "Give the plan its features, and publish it.",
    actions: &[Publish],
};

pub(super) const AWAITED_IMPORT: Diagnosis = Diagnosis {
    happened: "A buyer bought by a listing of yours that is not imported.",
    means: "They pay at AWS and are no customer here: they have access to nothing, and none of their usage can be billed. What AWS told of them is kept.",
    remedy: "Import the listing, with a plan for each dimension: what waits is applied at once.",
    actions: &[Import],
};

pub(super) const DIMENSION_WITHOUT_PLAN: Diagnosis = Diagnosis {
    happened: "A dimension that can be bought means no plan.",
    means: "Whoever buys it has access to nothing.",
    remedy: "Import the listing anew with a plan for the dimension.",
    actions: &[Import],
};

pub(super) const PAST_AGREEMENT_END: Diagnosis = Diagnosis {
    happened: "Pay-as-you-go subscriptions are past their agreement's end, and AWS told neither a renewal nor an end.",
    means: "They keep access, and their usage may be refused.",
    remedy: "See the agreement at AWS, or ask the partner who sold it.",
    actions: &[],
};

pub(super) const IDENTITY_CONFLICT: Diagnosis = Diagnosis {
    happened: "What AWS tells of a customer contradicts what is known.",
    means: "Access and usage stay with the customer who had them; they may be another's.",
    remedy: "Compare the AWS ids of the customers that are named, and unlink the wrong one.",
    actions: &[],
};

pub(super) const UNCLAIMED_BUYERS: Diagnosis = Diagnosis {
    happened: "Buyers subscribed at AWS whom your application has not provisioned.",
    means: "They pay, and can use what they bought only once your application knows them.",
    remedy: "Look whether their sign-up failed. Provision them by their AWS account id, or write to them.",
    actions: &[],
};

pub(super) const REGISTRATIONS: Diagnosis = Diagnosis {
    happened: "Buyers whom AWS sent to your sign-up page could not be taken on.",
    means: "They have bought, and stand before a page that says to try again.",
    remedy: "The detail says why. Buyers can come again by the button at AWS.",
    actions: &[],
};

pub(super) const TOPIC_UNSUBSCRIBED: Diagnosis = Diagnosis {
    happened: "The subscription to one of AWS's topics was ended.",
    means: "Its news comes only by the sweep, later.",
    remedy: "Subscribe again, unless its messages come another way.",
    actions: &[],
};

pub(super) const SNS_REFUSED: Diagnosis = Diagnosis {
    happened: "SNS messages were refused, since they are not known to be AWS's.",
    means: "If they are, their news comes only by the sweep, later.",
    remedy: "Compare the reason and the topic with the product's topics.",
    actions: &[],
};

pub(super) const WEBHOOK_PAUSED: Diagnosis = Diagnosis {
    happened: "Somebody has paused the webhook.",
    means: "Your application is told nothing by it: of a purchase or an end it learns only by the event feed or by access checks. The events are kept, and are posted once it is resumed.",
    remedy: "Resume it when your application is ready, with `marketd webhook resume`. Who paused it, and when, is in `marketd webhook show`.",
    actions: &[ResumeWebhook],
};

pub(super) const WEBHOOK_BEHIND: Diagnosis = Diagnosis {
    happened: "An event that somebody may wait for was not taken for minutes.",
    means: "Your application does not know of it: a new customer may have no access yet, or a former one still has it.",
    remedy: "See `marketd webhook show` for the last error, and `marketd webhook deliveries --state failing` for the events. Try it with `marketd webhook test`.",
    actions: &[],
};

pub(super) const NO_QUEUE: Diagnosis = Diagnosis {
    happened: "No queue is set.",
    means: "News comes only by the HTTPS endpoint and the sweep.",
    remedy: "Set `queue.url`, unless the HTTPS endpoint is subscribed.",
    actions: &[],
};
