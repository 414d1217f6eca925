// What a seller would write instead of marketd, as well as they would write it: sixteen consumers of the queue, messages kept
// before they are deleted, batches that are ready in one commit, and several buyers asked about in one call.
//
// Environment: QUEUE_URL, DATABASE, PRODUCT_CODE, MESSAGES and BUYERS (how many messages and
// subscriptions to wait for), and the SDK's own.

import Database from 'better-sqlite3';
import { Consumer } from 'sqs-consumer';
import { SQSClient } from '@aws-sdk/client-sqs';
import {
  GetEntitlementsCommand,
  MarketplaceEntitlementServiceClient,
} from '@aws-sdk/client-marketplace-entitlement-service';

const { QUEUE_URL, DATABASE, PRODUCT_CODE, MESSAGES, BUYERS } = process.env;
const CONSUMERS = 16;
const BUYERS_A_CALL = 20;
const CALLS_AT_ONCE = 8;

const db = new Database(DATABASE);
db.exec(`
  PRAGMA journal_mode = WAL;
  PRAGMA synchronous = FULL;
  CREATE TABLE notifications (id TEXT PRIMARY KEY, body TEXT NOT NULL, received_at INTEGER NOT NULL);
  CREATE TABLE subscriptions (
    buyer TEXT NOT NULL, dimension TEXT NOT NULL, quantity INTEGER, expires_at TEXT, status TEXT NOT NULL,
    PRIMARY KEY (buyer, dimension)
  );
`);
const note = db.prepare('INSERT OR IGNORE INTO notifications VALUES (?, ?, ?)');
const subscribe = db.prepare(`
  INSERT INTO subscriptions VALUES (?, ?, ?, ?, 'active')
  ON CONFLICT DO UPDATE SET quantity = excluded.quantity, expires_at = excluded.expires_at, status = 'active'
`);

// Whatever is ready by the next turn of the event loop shares a commit.
let waiting = [];
function commit(work) {
  return new Promise((resolve, reject) => {
    if (waiting.length === 0) setImmediate(flush);
    waiting.push({ work, resolve, reject });
  });
}
const together = db.transaction((jobs) => jobs.map((job) => job.work()));
function flush() {
  const jobs = waiting;
  waiting = [];
  try {
    const results = together(jobs);
    jobs.forEach((job, at) => job.resolve(results[at]));
  } catch (error) {
    jobs.forEach((job) => job.reject(error));
  }
}

const marketplace = new MarketplaceEntitlementServiceClient({});
const due = new Set();
const subscribed = new Set();
let calls = 0;

function look() {
  while (calls < CALLS_AT_ONCE && due.size > 0) {
    const buyers = [];
    for (const buyer of due) {
      if (buyers.length === BUYERS_A_CALL) break;
      due.delete(buyer);
      buyers.push(buyer);
    }
    calls += 1;
    ask(buyers)
      .catch(() => buyers.forEach((buyer) => due.add(buyer)))
      .finally(() => {
        calls -= 1;
        look();
        endIfDone();
      });
  }
}

async function ask(buyers) {
  const found = [];
  let NextToken;
  do {
    const answer = await marketplace.send(
      new GetEntitlementsCommand({
        ProductCode: PRODUCT_CODE,
        Filter: { CUSTOMER_IDENTIFIER: buyers },
        NextToken,
      }),
    );
    found.push(...(answer.Entitlements ?? []));
    NextToken = answer.NextToken;
  } while (NextToken);
  await commit(() => {
    for (const it of found) {
      const expires = it.ExpirationDate?.toISOString() ?? null;
      subscribe.run(it.CustomerIdentifier, it.Dimension, it.Value?.IntegerValue ?? null, expires);
    }
  });
  found.forEach((it) => subscribed.add(it.CustomerIdentifier));
}

// Nothing is left to receive, to delete or to ask about.
let deleted = 0;
function endIfDone() {
  if (deleted < Number(MESSAGES) || subscribed.size < Number(BUYERS)) return;
  if (due.size > 0 || calls > 0) return;
  console.log('done');
  process.exit(0);
}

async function take(messages) {
  const envelopes = messages.map((message) => [JSON.parse(message.Body), message.Body]);
  const fresh = await commit(() =>
    envelopes.filter(([envelope, body]) => note.run(envelope.MessageId, body, Date.now()).changes > 0),
  );
  for (const [envelope] of fresh) {
    due.add(JSON.parse(envelope.Message)['customer-identifier']);
  }
  look();
  return messages;
}

const sqs = new SQSClient({});
for (let number = 0; number < CONSUMERS; number += 1) {
  const consumer = Consumer.create({
    queueUrl: QUEUE_URL,
    sqs,
    batchSize: 10,
    waitTimeSeconds: 1,
    handleMessageBatch: take,
  });
  consumer.on('response_processed', endIfDone);
  consumer.on('message_processed', () => (deleted += 1));
  consumer.on('error', (error) => console.error(error.message));
  consumer.on('processing_error', (error) => console.error(error.message));
  consumer.start();
}
console.log('ready');
