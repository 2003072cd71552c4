import type { ServiceEndpoint } from '../../spiffe/service-endpoint.ts'
import type { Service } from '../../spiffe/service.ts'
import type { MeshChange, ServiceIndex } from '../service-index.ts'

/** What an agent is told of services next. Agents that are told the same get the same object. */
export interface MeshStep {
  readonly services: readonly Service[]
  readonly removedServiceIds: readonly string[]
  readonly endpoints: readonly ServiceEndpoint[]
  readonly removedEndpointIds: readonly string[]
}

export const nothingOfServices: MeshStep = { services: [], removedServiceIds: [], endpoints: [], removedEndpointIds: [] }

/** Makes steps of changes: most agents follow closely, and one step is all of theirs. */
export class MeshSteps {
  readonly #index: ServiceIndex
  readonly #steps = new WeakMap<MeshChange, { readonly revision: number, readonly step: MeshStep }>()
  #whole: { readonly revision: number, readonly step: MeshStep } | undefined

  constructor (index: ServiceIndex) { this.#index = index }

  /** The whole state. */
  everything (): MeshStep {
    const { revision, services, endpoints } = this.#index
    if (this.#whole?.revision !== revision) {
      this.#whole = { revision, step: { ...nothingOfServices, services: [...services.values()], endpoints: [...endpoints.values()] } }
    }
    return this.#whole.step
  }

  /** How what changed is now. */
  since (changes: readonly MeshChange[]): MeshStep {
    const [change, ...others] = changes
    if (change === undefined) return nothingOfServices
    if (others.length > 0) return this.#stepOf(union(changes))
    const { revision } = this.#index
    const known = this.#steps.get(change)
    if (known?.revision === revision) return known.step
    const step = this.#stepOf(change)
    this.#steps.set(change, { revision, step })
    return step
  }

  #stepOf ({ services, endpoints }: MeshChange): MeshStep {
    const [changedServices, removedServiceIds] = lookUp(services, this.#index.services)
    const [changedEndpoints, removedEndpointIds] = lookUp(endpoints, this.#index.endpoints)
    return { services: changedServices, removedServiceIds, endpoints: changedEndpoints, removedEndpointIds }
  }
}

/** Changes that nobody reads are put together again and again. */
const mostChanges = 64

/** What one agent must still be told of services. */
export class MeshFeed {
  readonly #steps: MeshSteps
  #changes: MeshChange[]

  /** @param missed since the agent was last told */
  constructor (steps: MeshSteps, missed: MeshChange | undefined) {
    this.#steps = steps
    this.#changes = missed === undefined || isEmpty(missed) ? [] : [missed]
  }

  get due (): boolean { return this.#changes.length > 0 }

  touch (change: MeshChange): void {
    this.#changes.push(change)
    if (this.#changes.length > mostChanges) this.#changes = [union(this.#changes)]
  }

  take (snapshot: boolean): MeshStep {
    const changes = this.#changes
    this.#changes = []
    return snapshot ? this.#steps.everything() : this.#steps.since(changes)
  }
}

export function isEmpty ({ services, endpoints }: MeshChange): boolean { return services.size + endpoints.size === 0 }

function union (changes: readonly MeshChange[]): MeshChange {
  return {
    services: new Set(changes.flatMap(({ services }) => [...services])),
    endpoints: new Set(changes.flatMap(({ endpoints }) => [...endpoints]))
  }
}

function lookUp<T> (ids: ReadonlySet<string>, values: ReadonlyMap<string, T>): [T[], string[]] {
  const found: T[] = []
  const gone: string[] = []
  for (const id of ids) {
    const value = values.get(id)
    if (value === undefined) gone.push(id)
    else found.push(value)
  }
  return [found, gone]
}
