import type { Clock } from '../../runtime/clock.ts'
import { isStop } from '../../runtime/tasks.ts'
import type { PolicyChange } from '../../wire/generated/policy.ts'
import { isAway, type Servers } from '../servers.ts'
import { activeNumber, applyPolicyTexts, checkPolicyFiles } from './policy-calls.ts'
import type { PolicyFile } from '../../authz/policy-files/read-policy-files.ts'
import { watchPolicyFiles } from './watch-policy-files.ts'

export type KeepEvent =
  | { readonly kind: 'applied', readonly change: PolicyChange }
  /** The set that is active stays. */
  | { readonly kind: 'refused', readonly error: unknown }
  /** Nobody answers; it is tried again. */
  | { readonly kind: 'away', readonly error: unknown }

export interface KeepDeps {
  readonly servers: Servers
  readonly comment: string
  readonly clock: Clock
}

/** Another operator may come in between now and then, and now. */
const mostConflicts = 5
const retryMs = 1_000

/** Applies what the paths hold, whole, now and after each change, until the signal aborts; then throws its reason. */
export async function * keepApplied (paths: readonly string[], deps: KeepDeps, signal: AbortSignal): AsyncGenerator<KeepEvent> {
  for await (const reading of watchPolicyFiles(paths, deps.clock, signal)) {
    if ('failure' in reading) yield { kind: 'refused', error: reading.failure }
    else yield * applyUntilAnswered(reading.files, deps, signal)
  }
}

async function * applyUntilAnswered (files: readonly PolicyFile[], deps: KeepDeps, signal: AbortSignal): AsyncGenerator<KeepEvent> {
  const { servers, comment, clock } = deps
  let told = false
  for (let conflicts = 0; ;) {
    try {
      await checkPolicyFiles(files, servers, signal)
      const replaces = await activeNumber(servers, signal)
      yield { kind: 'applied', change: await applyPolicyTexts(files, { replaces, comment }, servers, signal) }
      return
    } catch (error) {
      if (isStop(error, signal)) throw error
      if ((error as { readonly code?: string }).code === 'policy_conflict' && conflicts++ < mostConflicts) continue
      if (!isAway(error)) {
        yield { kind: 'refused', error }
        return
      }
      if (!told) yield { kind: 'away', error }
      told = true
    }
    await clock.sleep(retryMs, signal)
  }
}
