import type { Channel } from '../../../src/rpc/channel.ts'
import { healthService } from '../../../src/wire/generated/health.ts'
import { PermissionDeniedDetails } from '../../../src/wire/generated/types.ts'
import { attest, openServerChannel, type ServerAccess } from '../../fakes/agent-client.ts'
import { eventually } from '../../fakes/eventually.ts'
import { openAs } from '../admin/admin-client.ts'
import { rpcs as spiresOwn } from '../contract/answers.ts'
import { ask, type Rpc } from '../contract/spire-services.ts'
import { shapeOf, wordsOf } from './shape.ts'

const ofHealth = Object.entries(healthService.methods).map(([key, method]) =>
  [method.name, { path: `/${healthService.name}/${method.name}`, service: healthService, key, method }] as const)
const rpcs: ReadonlyMap<string, Rpc> = new Map([...spiresOwn, ...ofHealth])

/** Over the local socket; with no certificate; with an SVID that was minted for this path; or as the agent that joined by this token. */
export type Caller = 'local' | 'nobody' | `/${string}` | `agent:${string}`

/** What earlier answers held, by name. */
export type Known = Readonly<Record<string, string>>

/** One request, in the state that the steps before it have made. */
export interface Step {
  readonly by?: Caller
  /** As in the proto. */
  readonly method: string
  readonly what: string
  readonly request?: object | ((known: Known) => object) | undefined
  /** What later steps need of the answer. */
  readonly remember?: (answer: never) => Known
  /** Where one program works at intervals: asked until it holds. */
  readonly until?: (answer: never) => boolean
  readonly differs?: Differs | undefined
}

/** What of ours is not as with SPIRE: the status of the call, or of each item, and why; `OK` where it is the answer that differs. */
export type Differs = readonly [ours: string | readonly number[], why: string]
export type StepRow = readonly [method: string, what: string, request?: Step['request'] | undefined, differs?: Differs | undefined]

/** What a step came to, without what differs from run to run. */
export interface Told {
  readonly step: string
  readonly status: string
  readonly message?: string
  /** Of `PermissionDeniedDetails`. */
  readonly reason?: number
  readonly answer?: unknown
}

/** The steps of one caller. */
export function steps (by: Caller, rows: readonly StepRow[]): Step[] {
  return rows.map(([method, what, request, differs]) => ({ by, method, what, request, differs }))
}

/** Page after page of as many, one more than there are. */
export function pages (method: string, full: number, pageSize: number, more: object = {}): Step[] {
  const remember = ({ nextPageToken }: { nextPageToken: string }) => ({ [method]: nextPageToken })
  return Array.from({ length: full + 1 }, (_, index) => ({
    method, what: `page ${index + 1} of ${pageSize}${Object.keys(more).length === 0 ? '' : ', filtered'}`, remember,
    request: known => ({ ...more, pageSize, pageToken: index === 0 ? '' : known[method], outputMask: {} })
  }))
}

export function nameOf ({ by = 'local', method, what }: Step): string { return `${by} ${method}: ${what}` }

/** Asks step by step. */
export async function runSteps (server: ServerAccess, all: readonly Step[]): Promise<readonly Told[]> {
  await using scope = new AsyncDisposableStack()
  const channels = new Map<Caller, Channel>([['local', server.admin]])
  const told: Told[] = []
  let known: Known = {}
  for (const step of all) {
    const { by = 'local', method, what, request = {}, remember, until } = step
    const channel = channels.get(by) ?? scope.use(await open(server, by))
    channels.set(by, channel)
    const rpc = rpcs.get(method)
    if (rpc === undefined) throw new Error(`no method ${method}`)
    const once = () => ask(channel, rpc, typeof request === 'function' ? request(known) : request)
    let outcome = await once()
    if (until !== undefined) {
      await eventually(`${method}: ${what}`, async () => {
        outcome = await once()
        return outcome.answer !== undefined && until(outcome.answer as never)
      }, 60_000)
    }
    const { answer, error } = outcome
    if (remember !== undefined && answer !== undefined) known = { ...known, ...remember(answer as never) }
    const reason = error?.detail(PermissionDeniedDetails)?.reason
    told.push({
      step: nameOf(step), status: error?.status ?? 'OK', ...error === undefined ? {} : { message: wordsOf(error.message) },
      ...reason === undefined ? {} : { reason }, ...answer === undefined ? {} : { answer: shapeOf(answer) }
    })
  }
  return told
}

async function open (server: ServerAccess, by: Caller): Promise<Channel> {
  if (by === 'nobody') return openServerChannel(server)
  if (by.startsWith('/')) return await openAs(server, by)
  return openServerChannel(server, await attest(server, by.slice('agent:'.length)))
}
