// An agent in JavaScript: the same turns as agent.py, by the client kafkajs.
//
//   npm install kafkajs
//   node agent.mjs [RUN] [--later]
//
// With --later the candidates of one more turn have no scores, and the scores follow as records of their own:
// for a run with `scores: later`.

import { randomUUID } from 'node:crypto'
import { Kafka, logLevel } from 'kafkajs'

const topic = `${process.env.TUNESTREAM_KAFKA_TOPIC_PREFIX ?? ''}ttc.events`
const brokers = (process.env.KAFKA_BOOTSTRAP_SERVERS ?? 'localhost:9092').split(',')
const run = process.argv.slice(2).find((argument) => !argument.startsWith('--')) ?? 'sums'
const later = process.argv.includes('--later')

const kafka = new Kafka({ clientId: 'agent', brokers, logLevel: logLevel.ERROR })
const producer = kafka.producer({ idempotent: true, maxInFlightRequests: 1 })

// Nothing is left as it is but A-Z a-z 0-9 _ . - ~
const encoded = (part) =>
  encodeURIComponent(part).replace(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`)

// The key: run and example, percent-encoded, joined by "/". The headers: a CloudEvent in binary mode.
function message(type, body, extra = {}) {
  return {
    key: [body.run_id, body.example_id].map(encoded).join('/'),
    value: JSON.stringify(body),
    headers: {
      ce_specversion: '1.0',
      'content-type': 'application/json',
      ce_id: randomUUID(),
      ce_type: type,
      ce_source: '/examples/agent.mjs',
      ce_time: new Date().toISOString(),
    },
    ...extra,
  }
}

// Returns the partition that the client chose: a score of the turn goes there.
async function send(...messages) {
  const [{ partition }] = await producer.send({ topic, messages })
  return partition
}

function sum(n) {
  return { run_id: run, example_id: `sum-${n}`, turn_id: 'answer' }
}

function answers(n) {
  return [0, 1, 2, 3].map((number) => ({
    candidate_id: `${number}`,
    candidate_index: number,
    response: `${2 * n - 1 + number}`,
    score: -Math.abs(number - 1),
  }))
}

const prompt = (n) => `${n} + ${n} = ?`
const turn = (n, fields) => message('tunestream.ttc.turn.v1', { ...sum(n), prompt: prompt(n), ...fields })

// A turn is one record.
async function whole(n) {
  await send(turn(n, { candidates: answers(n), policy_version: 'base' }))
}

// A turn may come in parts: it is complete with the last one.
async function inParts(n) {
  const candidates = answers(n)
  await send(turn(n, { candidates: candidates.slice(0, 2), complete: false }))
  await send(turn(n, { candidates: candidates.slice(2) }))
}

// Or as single candidates, and an end.
async function single(n) {
  for (const candidate of answers(n)) {
    await send(message('tunestream.ttc.candidate.v1', { ...sum(n), prompt: prompt(n), ...candidate }))
  }
  await send(message('tunestream.ttc.turn_end.v1', sum(n)))
}

// Scores may come later, into the partition of their turn.
async function scoredLater(n) {
  const candidates = answers(n).map(({ score, ...candidate }) => candidate)
  const partition = await send(turn(n, { candidates }))
  for (const { candidate_id, score } of answers(n)) {
    const body = { ...sum(n), candidate_id, score, source: 'agent.mjs' }
    await send(message('tunestream.ttc.score.v1', body, { partition }))
  }
}

await producer.connect()
try {
  for (let n = 0; n < 8; n++) await whole(n)
  await inParts(8)
  await single(9)
  if (later) await scoredLater(10)
} finally {
  await producer.disconnect()
}
