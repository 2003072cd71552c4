import { decisionsPath, isMeant } from '../../authz/decision-log/decision-api.ts'
import type { DecisionEvent } from '../../authz/decision-log/decision-event.ts'
import { readEvents } from '../../authz/decision-log/read-events.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import type { FindDecisionsRequestInit } from '../../wire/generated/agent-sync.ts'
import type { TlsFiles } from '../authz/tls-files.ts'
import { withAgentAt } from '../channel-call.ts'
import { usage } from '../parse-flags.ts'

const timeoutMs = 10_000
const mostBytes = 16 * 1_048_576
const nothing: AsyncIterable<Uint8Array> = { async * [Symbol.asyncIterator] () {} }

/** All decisions of a request, the last first. @throws {SpiffeError} `file_unusable` */
export async function findInLog (path: string, id: string): Promise<readonly DecisionEvent[]> {
  const found: DecisionEvent[] = []
  for await (const { event } of readEvents(path)) if (event !== undefined && isMeant(event, id)) found.unshift(event)
  return found
}

/**
 * Asks a running authorizer.
 * @param files for mutual TLS; without them the web's authorities vouch for `https:`
 * @throws {SpiffeError} `usage_invalid`, `server_unreachable`, `message_malformed`; of `files`
 */
export async function askForDecisions (
  base: string, id: string, files: TlsFiles | undefined, signal: AbortSignal
): Promise<readonly DecisionEvent[]> {
  const url = URL.canParse(base) ? new URL(decisionsPath, base) : undefined
  if (url === undefined || !/^https?:$/.test(url.protocol)) {
    throw usage(`-dataApi: ${JSON.stringify(base)} is no URL such as http://localhost:8181`)
  }
  if (files !== undefined && url.protocol !== 'https:') throw usage('-svid, -svidKey and -bundle are for a -dataApi of https:')
  url.searchParams.set('request', id)
  const answer = files === undefined ? await asked(url, signal) : await askedOverTls(url, files, signal)
  try {
    const { decisions } = JSON.parse(answer) as { decisions: DecisionEvent[] }
    if (Array.isArray(decisions) && decisions.every(isEvent)) return decisions
  } catch { /* told below */ }
  throw new SpiffeError('message_malformed', `what ${url.origin} answers is no list of decisions`)
}

/** Asks an agent by its admin socket. @throws {SpiffeError} `server_unreachable`, `message_malformed` */
export async function askAgent (path: string, id: string, signal: AbortSignal): Promise<readonly DecisionEvent[]> {
  const { decisionsService } = await import('../../wire/generated/agent-sync.ts')
  const ask = (which: FindDecisionsRequestInit) =>
    withAgentAt(path, channel => channel.client(decisionsService).findDecisions(which, { signal, timeoutMs }))
  const { events } = await ask({ requestId: id })
  const found = events.length > 0 ? events : (await ask({ decisionId: id })).events
  try {
    const decisions = found.map(text => JSON.parse(text) as DecisionEvent)
    if (decisions.every(isEvent)) return decisions
  } catch { /* told below */ }
  throw new SpiffeError('message_malformed', `what the agent at ${path} answers is no list of decisions`)
}

function isEvent ({ decision_id: name, input, result }: DecisionEvent): boolean {
  return name !== undefined && input !== undefined && result !== undefined
}

async function asked (url: URL, signal: AbortSignal): Promise<string> {
  let response
  try {
    response = await fetch(url, { redirect: 'error', signal: AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]) })
    if (response.ok) return await limited(response.body ?? nothing)
    await response.body?.cancel()
  } catch (error) {
    throw new SpiffeError('server_unreachable', `cannot ask ${url.origin}: ${reasonOf(error)}`, { cause: error })
  }
  throw new SpiffeError('server_unreachable', `${url.origin} answers ${response.status}`)
}

async function askedOverTls (url: URL, files: TlsFiles, signal: AbortSignal): Promise<string> {
  const { getOverTls } = await import('./get-over-tls.ts')
  let status: number | undefined
  try {
    const response = await getOverTls(url, files, AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]))
    if (response.statusCode === 200) return await limited(response)
    status = response.statusCode
    response.destroy()
  } catch (error) {
    if (error instanceof SpiffeError) throw error
    throw new SpiffeError('server_unreachable', `cannot ask ${url.origin}: ${reasonOf(error)}`, { cause: error })
  }
  throw new SpiffeError('server_unreachable', `${url.origin} answers ${status}`)
}

async function limited (body: AsyncIterable<Uint8Array>): Promise<string> {
  const chunks: Uint8Array[] = []
  let length = 0
  for await (const chunk of body) {
    length += chunk.length
    if (length > mostBytes) throw new Error(`the answer is longer than ${mostBytes} bytes`)
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString('utf8')
}

/** What `fetch` hides in the cause. */
function reasonOf (error: unknown): string {
  const { message, cause } = error as Error
  return cause instanceof Error && cause.message !== '' ? cause.message : message
}
