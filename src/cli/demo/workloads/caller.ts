// A client workload: plain HTTP to its node's Envoy, no certificate, no SPIFFE library.
// usage: node caller.ts HOST PORT     reads `call`, `loop`, `stop` from standard input, a line each, and ends with it; answers in JSON
import { randomUUID } from 'node:crypto'
import { Agent, request } from 'node:http'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'

const [host, port] = process.argv.slice(2)
const agent = new Agent({ keepAlive: true })
const betweenRequestsMs = 5
const patienceMs = 15_000
let looping: Promise<void> | undefined
let stop = new AbortController()

for await (const word of createInterface({ input: process.stdin })) {
  if (word === 'call') {
    tell({ answer: await call().catch((error: unknown) => ({ id: '', status: 0, body: String(error) })) })
  } else if (word === 'loop') {
    stop = new AbortController()
    looping = loop(stop.signal)
  } else if (word === 'stop') {
    stop.abort()
    await looping
  }
}
process.exit()

interface Answer { readonly id: string, readonly status: number, readonly body: string }

async function loop (signal: AbortSignal): Promise<void> {
  const failures = []
  let requests = 0
  for (; !signal.aborted; requests++) {
    const answer = await call().catch((error: unknown) => ({ status: 0, body: String(error) }))
    if (answer.status !== 200) failures.push(`${answer.status} ${answer.body}`)
    await sleep(betweenRequestsMs)
  }
  tell({ loop: { requests, failures: failures.length, firstFailure: failures[0] } })
}

function call (): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const id = randomUUID()
    const sent = request({ host, port, agent, path: '/hello', headers: { 'x-request-id': id }, timeout: patienceMs }, response => {
      let body = ''
      response.setEncoding('utf8').on('data', text => { body += text }).on('error', reject)
        .on('end', () => resolve({ id, status: response.statusCode ?? 0, body }))
    })
    sent.on('timeout', () => sent.destroy(new Error('no answer'))).on('error', reject).end()
  })
}

function tell (fact: object): void {
  process.stdout.write(`${JSON.stringify(fact)}\n`)
}
