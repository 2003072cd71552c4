import type { PolicyDocumentText } from '../../spiffe/policy-version.ts'
import type { SpiffeId } from '../../spiffe/spiffe-id.ts'
import type { PolicyState } from '../policy-index.ts'

/** What an agent is told of policies next. Agents that are told the same get the same object. */
export interface PolicyStep {
  /** Another set begins; otherwise only who is meant by its selectors has changed. */
  readonly whole: boolean
  /** 0: no set is active. */
  readonly version: number
  readonly revision: string
  /** None unless `whole`. */
  readonly texts: readonly PolicyDocumentText[]
  readonly selected: readonly SelectedChange[]
}

export interface SelectedChange {
  readonly selectors: readonly string[]
  readonly ids: readonly SpiffeId[]
  readonly removedIds: readonly SpiffeId[]
}

/** Makes steps of states: most agents follow closely, and one step is all of theirs. */
export class PolicySteps {
  readonly #wholes = new WeakMap<PolicyState, PolicyStep>()
  readonly #changes = new WeakMap<PolicyState, { readonly to: PolicyState, readonly step: PolicyStep | undefined }>()

  /** @param before what the agent knows; `undefined`: nothing @returns `undefined` when there is nothing to tell */
  between (before: PolicyState | undefined, now: PolicyState): PolicyStep | undefined {
    if (before === now) return undefined
    if (before === undefined || before.active !== now.active) return this.#whole(now)
    const known = this.#changes.get(before)
    if (known?.to === now) return known.step
    const step = changeOf(before, now)
    this.#changes.set(before, { to: now, step })
    return step
  }

  #whole (now: PolicyState): PolicyStep {
    const known = this.#wholes.get(now)
    if (known !== undefined) return known
    const { active, selected } = now
    const step = {
      whole: true,
      version: active?.number ?? 0,
      revision: active?.revision ?? '',
      texts: active?.texts ?? [],
      selected: [...selected].map(([key, ids]) => ({ selectors: selectorsOf(key), ids: [...ids], removedIds: [] }))
    }
    this.#wholes.set(now, step)
    return step
  }
}

function changeOf (before: PolicyState, now: PolicyState): PolicyStep | undefined {
  const selected: SelectedChange[] = []
  for (const [key, ids] of now.selected) {
    const earlier = before.selected.get(key) ?? new Set()
    if (ids === earlier) continue
    selected.push({ selectors: selectorsOf(key), ids: [...ids.difference(earlier)], removedIds: [...earlier.difference(ids)] })
  }
  if (selected.length === 0) return undefined
  return { whole: false, version: now.active?.number ?? 0, revision: now.active?.revision ?? '', texts: [], selected }
}

function selectorsOf (key: string): readonly string[] { return JSON.parse(key) as string[] }
