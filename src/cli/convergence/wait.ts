import { systemClock } from '../../runtime/clock.ts'
import { formatDuration } from '../../runtime/duration.ts'
import type { Cursor } from '../../wire/generated/agent-sync.ts'
import type { ConsumerProgress } from '../../wire/generated/cluster.ts'
import { getStatus } from '../cluster/cluster-client.ts'
import type { ExitCode } from '../command.ts'
import { durationFlag, switchFlag } from '../flag.ts'
import { formatJson } from '../json-output.ts'
import { printable } from '../pretty.ts'
import { openStatusLine } from '../progress.ts'
import { tellFailure } from '../refusal.ts'
import type { Servers } from '../servers.ts'
import type { Terminal } from '../terminal.ts'
import { awaitConvergence, type Concern, type Waited } from './await-convergence.ts'
import { formatConsumers, lacks, type MustServe } from './consumers.ts'

export const waitFlags = {
  wait: switchFlag('wait until every live agent that is concerned has the change; exit code 3 when one does not have it in time'),
  'wait-timeout': durationFlag('how long to wait', 30_000, '30s')
}

export interface WaitCall {
  readonly flags: { readonly wait: boolean, readonly 'wait-timeout': number, readonly output: 'pretty' | 'json' }
  readonly terminal: Terminal
}

/** Waits for a change that has been made. Never rejects. */
export type Wait = (concern: Concern) => Promise<Waited>

const callTimeoutMs = 5_000

/**
 * Comes before the change, and remembers where the log stands; `undefined` without `-wait`.
 * @throws {SpiffeError} `cluster_api_missing` from a server that could not be waited on, `server_unreachable`
 */
export async function beginWait (call: WaitCall, servers: Servers): Promise<Wait | undefined> {
  if (!call.flags.wait) return undefined
  const { signal } = call.terminal
  const { head } = await servers.ask(channel => getStatus(channel, { signal, timeoutMs: callTimeoutMs }))
  return concern => waitUntilTaken(servers, call.terminal, { since: head, concern, timeoutMs: call.flags['wait-timeout'] })
}

export interface WaitQuestion {
  /** Where the log stood before the change. */
  readonly since: Cursor | undefined
  readonly concern: Concern
  readonly timeoutMs: number
}

/** Waits with progress on standard error. Never rejects. */
export async function waitUntilTaken (
  servers: Servers, terminal: Terminal, { since, concern, timeoutMs }: WaitQuestion
): Promise<Waited> {
  using line = openStatusLine(terminal)
  const onProgress = (consumers: readonly ConsumerProgress[]) => line.show(formatProgress(consumers, concern.mustServe))
  return await awaitConvergence(since, concern, timeoutMs, { servers, clock: systemClock, signal: terminal.signal, onProgress })
}

/** What a command has done, in both forms of output. */
export interface Done {
  readonly json: object
  readonly pretty: () => void
}

/**
 * Tells what was done and then, after the wait, who has it.
 * @param concern `undefined` when nothing was changed that could be waited for
 */
export async function tellChange (call: WaitCall, done: Done, wait: Wait | undefined, concern: Concern | undefined): Promise<ExitCode> {
  const { flags: { output }, terminal } = call
  if (output === 'pretty') done.pretty()
  const waited = concern === undefined ? undefined : await wait?.(concern)
  if (output === 'json') terminal.out(`${formatJson({ ...done.json, convergence: waited && encodeWaited(waited) })}\n`)
  else if (waited !== undefined) terminal.out(formatWaited(waited, concern?.mustServe))
  if (waited?.failure === undefined) return 0
  if (terminal.signal.aborted) throw waited.failure
  return tellFailure(terminal, waited.failure, output, ['assay'])
}

/** For `--output json`. */
export function encodeWaited ({ cursor, consumers, tookMs, failure }: Waited): object {
  return { converged: failure === undefined, cursor, consumers, tookMs }
}

/** How many have it, then a line for each. */
function formatWaited ({ consumers, tookMs }: Waited, mustServe: MustServe): string {
  return `${countsOf(consumers, mustServe)} after ${formatDuration(tookMs)}\n${formatConsumers(consumers, mustServe)}`
}

/** `2 of 3 live agents have it; 1 is absent`. */
export function countsOf (consumers: readonly ConsumerProgress[], mustServe: MustServe): string {
  const live = consumers.filter(({ state }) => state !== 'absent')
  const having = live.filter(consumer => !lacks(consumer, mustServe))
  const absent = consumers.length - live.length
  const counts = live.length === 0
    ? 'no live agent is concerned'
    : `${having.length} of ${live.length} live agent${live.length === 1 ? '' : 's'} ${having.length === 1 ? 'has' : 'have'} it`
  return absent === 0 ? counts : `${counts}; ${absent} ${absent === 1 ? 'is' : 'are'} absent`
}

function formatProgress (consumers: readonly ConsumerProgress[], mustServe: MustServe): string {
  const names = consumers.filter(consumer => lacks(consumer, mustServe)).map(({ agentId }) => agentId.replace(/^.*\/spire\/agent\//, ''))
  return printable(`${countsOf(consumers, mustServe)}${names.length === 0 ? '' : `; waiting for ${names.join(', ')}`}`)
}
