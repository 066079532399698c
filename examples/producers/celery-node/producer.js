// Asks Taskvisor for something from Node.js, by the npm package celery-node: `npm ci` first.
//
//   REDIS_URL=redis://redis:6379/0 node producer.js ask instance.build \
//     '{"name": "web1", "image": "/srv/images/debian.qcow2", "flavor": "m1.small"}' [ID]
//   node producer.js ask instance.delete '{"instance": "web1"}'
//   node producer.js send TASK ARGUMENTS [ID]     puts the request into the queue, and prints its id
//   node producer.js wait ID                      waits for its end
//   node producer.js show ID                      prints what is known of it now
//
// The same ID is the same request, however often it is sent: choose one, and send again when in doubt.
// Ends with 0 and the result as JSON, with 1 and the error, or with 2 and what is known when TIMEOUT_S (600) have passed.
// With EXPIRES_S a request that no worker has taken by then never is. See docs/producers.md.
"use strict";

const celery = require("celery-node");
const { randomUUID } = require("crypto");

const QUEUE = process.env.QUEUE || "compute"; // celery-node's own default, "celery", is read by nobody
const TIMEOUT_S = Number(process.env.TIMEOUT_S || 600);
const EXPIRES_S = Number(process.env.EXPIRES_S || 0);

class Ended extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

async function main([verb, ...words]) {
  const url = process.env.REDIS_URL || "redis://127.0.0.1:6379/0";
  const client = celery.createClient(url, url, QUEUE);
  try {
    await reachable(client);
    if (verb === "ask") return await waitFor(client, await send(client, ...words));
    if (verb === "send") return await send(client, ...words);
    if (verb === "wait") return await waitFor(client, words[0]);
    if (verb === "show") return JSON.stringify(await client.backend.getTaskMeta(words[0]));
    throw new Ended(2, "usage: producer.js ask|send TASK ARGUMENTS [ID], or wait|show ID");
  } finally {
    client.backend.redis.disconnect();
    client.broker.redis.disconnect();
  }
}

// ioredis tries for ever, and celery-node tells nobody.
async function reachable(client) {
  try {
    await client.isReady();
  } catch (error) {
    throw new Ended(2, `Redis can't be reached: ${error.message}`);
  }
}

async function send(client, task, fields, id = randomUUID()) {
  const message = client.createTaskMessage(id, task, [], JSON.parse(fields));
  if (EXPIRES_S) message.headers.expires = new Date(Date.now() + EXPIRES_S * 1000).toISOString();
  await client.broker.publish(message.body, "", QUEUE, message.headers, message.properties); // sendTask does not wait for it
  return id;
}

async function waitFor(client, id) {
  const result = client.asyncResult(id);
  try {
    return JSON.stringify(await result.get(TIMEOUT_S * 1000));
  } catch (error) {
    if (error.exc_type) throw new Ended(1, `${error.exc_type}: ${error.exc_message}`);
    throw new Ended(2, await silence(client, id));
  }
}

async function silence(client, id) {
  const [meta, waiting] = [await client.backend.getTaskMeta(id), await client.broker.redis.llen(QUEUE)];
  if (meta) return `request ${id} goes on: ${JSON.stringify(meta)}`;
  if (waiting > 0)
    return `no worker has taken request ${id}: ${waiting} wait in the queue ${QUEUE}; does a control node run? see \`taskvisor hosts\``;
  return `nothing is known of request ${id}: no worker has answered yet, or its result has expired; send it again under the same id`;
}

main(process.argv.slice(2)).then(
  (said) => console.log(said),
  (error) => {
    console.error(error instanceof Ended ? error.message : String(error));
    process.exitCode = error.code === 1 ? 1 : 2;
  },
);
