import { SpiffeError } from '../spiffe/errors.ts'
import type { Decision } from './policy/decision.ts'
import type { PolicyEngine } from './policy/policy-engine.ts'
import type { AuthzRequest } from './policy/request.ts'

/** What somebody who was asked besides the rules says. */
export interface Verdict {
  readonly allowed: boolean
  /** Of HTTP; 403 unless given. */
  readonly httpStatus?: number | undefined
  readonly body?: string | undefined
  /** For the caller when refused, for the workload when allowed. */
  readonly headers?: ReadonlyArray<readonly [string, string]> | undefined
  /** For the caller when allowed. */
  readonly responseHeaders?: ReadonlyArray<readonly [string, string]> | undefined
  readonly headersToRemove?: readonly string[] | undefined
  readonly metadata?: Readonly<Record<string, unknown>> | undefined
  /** Revisions of the bundles of Rego that it is by. */
  readonly bundles?: Readonly<Record<string, string>> | undefined
}

/** Somebody whom `custom` rules name. @param raw the request as it came, e.g. the bytes of a `CheckRequest` */
export type Provider = (request: AuthzRequest, raw: RawInput) => Promise<Verdict>

/** By the name in rules; `undefined`: nobody of that name. */
export type Providers = (name: string) => Provider | undefined

/** The input document of a request, made when somebody wants it (see docs/rego.md). */
export type RawInput = () => unknown

/** A decision that holds, whoever had to be asked. */
export interface Decided extends Decision {
  readonly verdict?: Verdict | undefined
}

/** The rules in force, and those who are asked besides. */
export interface DeciderDeps {
  /** Of the newest policies: read once for each decision, so that one decision sees one revision. */
  readonly engine: () => PolicyEngine
  readonly providers: Providers
  readonly onDecided?: ((record: DecisionFacts) => void) | undefined
  /** Whoever asks is let in; what would have been decided is recorded. */
  readonly dryRun?: boolean | undefined
  readonly monotonicMs: () => number
}

/** What is recorded of one decision. */
export interface DecisionFacts {
  readonly request: AuthzRequest
  readonly decision: Decided
  readonly durationMs: number
  readonly requestId: string | undefined
}

export class Decider {
  readonly #deps: DeciderDeps

  constructor (deps: DeciderDeps) { this.#deps = deps }

  /** At once where rules suffice. @throws {SpiffeError} `provider_failed`: nobody knows, so nobody is let in */
  decide (request: AuthzRequest, requestId: string | undefined, raw: RawInput): Decided | Promise<Decided> {
    const startedMs = this.#deps.monotonicMs()
    const decision = this.#deps.engine().decide(request)
    if (decision.consult.length === 0) return this.#record(request, decision, startedMs, requestId)
    return this.#consult(decision, request, raw).then(decided => this.#record(request, decided, startedMs, requestId))
  }

  async #consult (decision: Decision, request: AuthzRequest, raw: RawInput): Promise<Decided> {
    let verdict: Verdict | undefined
    let bundles: Decision['bundles']
    for (const { rule, provider } of decision.consult) {
      const ask = this.#deps.providers(provider)
      if (ask === undefined) throw new SpiffeError('provider_failed', `rule ${rule} asks ${provider}, which is not configured here`)
      verdict = await ask(request, raw)
      if (verdict.bundles !== undefined) bundles = { ...bundles, ...verdict.bundles }
      if (!verdict.allowed) return { ...decision, allowed: false, reason: 'custom', rule, verdict, bundles }
    }
    return { ...decision, verdict, bundles }
  }

  #record (request: AuthzRequest, decision: Decided, startedMs: number, requestId: string | undefined): Decided {
    this.#deps.onDecided?.({ request, decision, durationMs: this.#deps.monotonicMs() - startedMs, requestId })
    return this.#deps.dryRun === true && !decision.allowed ? { ...decision, allowed: true } : decision
  }
}
