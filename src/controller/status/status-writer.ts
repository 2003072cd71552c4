import type { Clock } from '../../runtime/clock.ts'
import type { Logger } from '../../runtime/logger.ts'
import { isStop } from '../../runtime/tasks.ts'
import { Waiter } from '../../runtime/waiter.ts'
import type { ControllerMetrics } from '../controller-metrics.ts'
import { type KubeClient, statusOf } from '../kubernetes/kube-client.ts'
import type { Tenure } from '../kubernetes/lease.ts'
import { apiVersion, resourcePaths } from '../resources/resource.ts'
import { conditionsOf, readyIn, readySaying } from './conditions.ts'
import type { ResourceStatus } from './resource-statuses.ts'

export interface StatusWriterDeps {
  readonly client: Pick<KubeClient, 'create' | 'patch'>
  readonly statuses: () => Iterable<ResourceStatus>
  readonly clock: Clock
  readonly log: Logger
  readonly metrics: Pick<ControllerMetrics, 'failed'>
  /** Who reports events. */
  readonly identity: string
}

/** Counts change with each pod: they are told once in so long. */
const everyMs = 1_000

/** Writes what became of resources into their status, and an event where one begins or ceases to be ready. */
export class StatusWriter {
  readonly #deps: StatusWriterDeps
  readonly #waiter = new Waiter()
  /** By UID, what was written last: the watch brings it back later. */
  readonly #written = new Map<string, string>()
  #isDue = false

  constructor (deps: StatusWriterDeps) { this.#deps = deps }

  /** Something may have changed. */
  changed (): void {
    this.#isDue = true
    this.#waiter.wake()
  }

  /** While this controller leads. @throws the signal's reason @throws {SpiffeError} `lease_lost` */
  async run (tenure: Tenure, signal: AbortSignal): Promise<void> {
    this.#written.clear()
    for (;;) {
      signal.throwIfAborted()
      if (!this.#isDue) await this.#waiter.wait(signal)
      signal.throwIfAborted()
      this.#isDue = false
      await this.writeAll(tenure, signal)
      await this.#deps.clock.sleep(everyMs, signal)
    }
  }

  async writeAll (tenure: Tenure, signal: AbortSignal): Promise<void> {
    const { log, metrics } = this.#deps
    const living = new Set<string>()
    for (const status of this.#deps.statuses()) {
      living.add(status.resource.uid)
      tenure.check()
      try {
        await this.#write(status, signal)
      } catch (error) {
        if (isStop(error, signal)) throw error
        // It was deleted.
        if (statusOf(error) === 404) continue
        metrics.failed('status')
        this.#written.delete(status.resource.uid)
        this.#isDue = true
        log.warn({ err: error, kind: status.resource.kind, name: status.resource.name }, 'a status could not be written')
      }
    }
    for (const uid of this.#written.keys()) if (!living.has(uid)) this.#written.delete(uid)
  }

  async #write ({ resource, fields, readiness, use }: ResourceStatus, signal: AbortSignal): Promise<void> {
    const { client, clock } = this.#deps
    const conditions = conditionsOf(
      resource.status['conditions'], [readySaying(readiness), ...use === undefined ? [] : [use]], resource.generation, clock.now()
    )
    const status = { ...fields, observedGeneration: resource.generation, conditions }
    const text = JSON.stringify([fields, readiness, use, resource.generation])
    if (this.#written.get(resource.uid) === text) return
    const before = readyIn(resource.status['conditions'])
    const isSame = isSubset(status, resource.status)
    if (!isSame) await client.patch(`${resourcePaths[resource.kind]}/${resource.name}/status`, { status }, signal)
    const wasWritten = this.#written.has(resource.uid)
    this.#written.set(resource.uid, text)
    const isTold = before?.status === (readiness.ready ? 'True' : 'False') && before.reason === readiness.reason
    // One that is ready from the beginning is no event.
    if (isSame || isTold || (before === undefined && readiness.ready && !wasWritten)) return
    await this.#tell({ resource, fields, readiness }, signal)
  }

  async #tell ({ resource, readiness }: ResourceStatus, signal: AbortSignal): Promise<void> {
    const { client, clock, identity } = this.#deps
    const time = `${clock.now().toISOString().slice(0, 19)}Z`
    // Those of objects without a namespace are in this one.
    const namespace = 'default'
    await client.create(`/api/v1/namespaces/${namespace}/events`, {
      metadata: { generateName: `${resource.name}.`, namespace },
      involvedObject: { apiVersion, kind: resource.kind, name: resource.name, uid: resource.uid },
      reason: readiness.reason,
      message: readiness.message.slice(0, 1_000) || 'all that it declares is on the server',
      type: readiness.ready ? 'Normal' : 'Warning',
      source: { component: 'assay-controller' },
      reportingComponent: 'assay-controller',
      reportingInstance: identity,
      firstTimestamp: time,
      lastTimestamp: time,
      count: 1
    }, signal)
  }
}

/** Whether all of this is in that, in whatever order its names are. */
function isSubset (part: unknown, whole: unknown): boolean {
  if (Array.isArray(part)) {
    return Array.isArray(whole) && part.length === whole.length && part.every((item, index) => isSubset(item, whole[index]))
  }
  if (typeof part !== 'object' || part === null) return part === whole
  return typeof whole === 'object' && whole !== null &&
    Object.entries(part).every(([name, value]) => isSubset(value, (whole as Record<string, unknown>)[name]))
}
