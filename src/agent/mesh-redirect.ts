import { hbonePort, type MeshSettings, type MeshWorkload } from '../mesh/mesh-state.ts'
import type { RedirectRules } from '../mesh/pods/redirect-rules.ts'
import type { WorkloadRegistry } from '../mesh/workloads/workload-registry.ts'
import { applyRedirect, listRedirects, removeRedirect } from '../redirect/redirect.ts'
import type { Clock } from '../runtime/clock.ts'
import { isOvertaken } from '../runtime/is-overtaken.ts'
import type { Logger } from '../runtime/logger.ts'
import { isStop } from '../runtime/tasks.ts'
import { Watchable } from '../runtime/watchable.ts'

/** Rules of namespaces, for this node's proxy. */
export function redirectRules ({ outboundPort, inboundPort }: MeshSettings): RedirectRules {
  return {
    apply: (path, signal) => applyRedirect({
      scope: { kind: 'netns', path }, outboundPort, inboundPort, tunnelPort: hbonePort, excludePorts: [], excludeCidrs: []
    }, signal),
    async remove (path, signal) { await removeRedirect({ kind: 'netns', path }, signal) },
    async exist (path, signal) {
      const found = await listRedirects(path, signal)
      return found.some(one => one.outboundPort === outboundPort && one.inboundPort === inboundPort)
    }
  }
}

export interface RedirectWorkloadsDeps {
  readonly registry: Pick<WorkloadRegistry, 'watch' | 'arrivals'>
  readonly rules: Pick<RedirectRules, 'apply'>
  readonly isPod: (uid: string) => boolean
  readonly clock: Pick<Clock, 'sleep'>
  readonly log: Logger
}

const firstRetryMs = 1_000
const longestRetryMs = 30_000

/**
 * Makes what the workloads of this node send and receive arrive at the proxy. A namespace is left alone until its workload has an identity:
 * not every namespace with a name belongs to the mesh. What was redirected once stays so while it is here: one that lost its identity must
 * not speak in the clear. Where rules cannot be written it is tried again, whether or not anything changes.
 */
export class WorkloadRedirects {
  readonly #deps: RedirectWorkloadsDeps
  readonly #done = new Watchable<ReadonlySet<string>>(new Set())

  constructor (deps: RedirectWorkloadsDeps) { this.#deps = deps }

  /** Until a workload's connections are redirected, or the signal aborts. @returns whether they are */
  async untilDone (uid: string, signal: AbortSignal): Promise<boolean> {
    for await (const done of this.#done.watch(signal)) if (done.has(uid)) return true
    return false
  }

  /** Until the signal aborts. */
  async run (signal: AbortSignal): Promise<void> {
    const { registry, clock } = this.#deps
    // Whoever ran before may have been gone for a while, and its namespaces with it.
    this.#done.set(new Set())
    const states = registry.watch(signal)
    for (let next = states.next(), retryMs = firstRetryMs; ;) {
      const { value, done: isOver } = await next
      if (isOver === true) return
      next = states.next()
      const here = new Set([...value.workloads, ...registry.arrivals].map(({ uid }) => uid))
      this.#done.set(this.#done.value.intersection(here))
      for (;;) {
        if (await this.#redirectAll(value.workloads, signal)) {
          retryMs = firstRetryMs
          break
        }
        if (await isOvertaken(next, retryMs, clock, signal)) break
        retryMs = Math.min(longestRetryMs, retryMs * 2)
      }
    }
  }

  /** @returns whether all are now */
  async #redirectAll (workloads: readonly MeshWorkload[], signal: AbortSignal): Promise<boolean> {
    const { rules, isPod, log } = this.#deps
    let all = true
    for (const { uid, name, netnsPath } of workloads) {
      // Of pods, labels say what is to become of their connections.
      if (this.#done.value.has(uid) || isPod(uid)) continue
      try {
        const { tool } = await rules.apply(netnsPath, signal)
        this.#done.set(new Set([...this.#done.value, uid]))
        log.info({ uid, name, tool }, 'a workload\'s connections are redirected to the proxy')
      } catch (error) {
        if (isStop(error, signal)) return true
        all = false
        log.error({ uid, name, err: error }, 'a workload\'s connections are not redirected: it can be reached, and speaks, in the clear')
      }
    }
    return all
  }
}
