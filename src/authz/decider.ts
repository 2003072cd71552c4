import { SpiffeError } from '../spiffe/errors.ts'
import type { EncodedRequest } from './decision-log/encoded-request.ts'
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
  /** Revisions by which it was decided, by bundle. */
  readonly revisions?: ReadonlyMap<string, string> | undefined
}

/**
 * Somebody whom `custom` rules name.
 * @param raw the request as it came, e.g. the bytes of a `CheckRequest`
 * @param call of who asks, if it can end early
 */
export type Provider = (request: AuthzRequest, raw: RawInput, call?: AskingCall) => Promise<Verdict>

/**
 * By the name in rules; `undefined`: nobody of that name. Who is found answers by the policies that were the newest when it was looked for:
 * all whom one request needs are looked for at once.
 */
export type Providers = (name: string) => Provider | undefined

export interface AskingCall {
  /** Aborts, with a `SpiffeError`, when nobody waits for the answer any more. */
  readonly signal: AbortSignal
}

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
  readonly encoded: EncodedRequest | undefined
}

interface Consultation { readonly rule: string, readonly provider: string, readonly ask: Provider | undefined }

/** `error`: somebody could not say. */
interface Consulted { readonly decided: Decided, readonly error?: unknown }

type Asked = Pick<DecisionFacts, 'request' | 'requestId' | 'encoded'> & { readonly startedMs: number }

/** What comes with a request beside what is decided of. */
export interface AskedWith {
  /** How long an answer is wanted. */
  readonly call?: AskingCall | undefined
  /** The same request as it came, where that can be read again. */
  readonly encoded?: EncodedRequest | undefined
}

export class Decider {
  readonly #deps: DeciderDeps

  constructor (deps: DeciderDeps) { this.#deps = deps }

  /** At once where rules suffice. @throws {SpiffeError} `provider_failed`: nobody knows, so nobody is let in, which is recorded too */
  decide (
    request: AuthzRequest, requestId: string | undefined, raw: RawInput, { call, encoded }: AskedWith = {}
  ): Decided | Promise<Decided> {
    const startedMs = this.#deps.monotonicMs()
    const decision = this.#deps.engine().decide(request)
    const asked = { request, startedMs, requestId, encoded }
    if (decision.consult.length === 0) return this.#record(asked, decision)
    // Before the first is asked: what changes while it answers is for the next request.
    const consultations = decision.consult.map(({ rule, provider }) => ({ rule, provider, ask: this.#deps.providers(provider) }))
    return this.#consult(decision, consultations, ask => ask(request, raw, call)).then(({ decided, error }) => {
      const answer = this.#record(asked, decided)
      if (error !== undefined && !answer.allowed) throw error
      return answer
    })
  }

  async #consult (
    decision: Decision, asked: readonly Consultation[], answerOf: (ask: Provider) => Promise<Verdict>
  ): Promise<Consulted> {
    let verdict: Verdict | undefined
    let bundles: Decision['bundles']
    for (const { rule, provider, ask } of asked) {
      let answer: Verdict
      try {
        if (ask === undefined) throw new SpiffeError('provider_failed', `rule ${rule} asks ${provider}, which is not configured here`)
        answer = await answerOf(ask)
      } catch (error) {
        return { decided: { ...decision, allowed: false, reason: 'custom', rule, bundles }, error }
      }
      if (answer.revisions !== undefined) bundles = new Map([...bundles ?? [], ...answer.revisions])
      if (!answer.allowed) return { decided: { ...decision, allowed: false, reason: 'custom', rule, verdict: answer, bundles } }
      verdict = verdict === undefined ? answer : together(verdict, answer)
    }
    return { decided: { ...decision, verdict, bundles } }
  }

  #record ({ request, startedMs, requestId, encoded }: Asked, decision: Decided): Decided {
    this.#deps.onDecided?.({ request, decision, durationMs: this.#deps.monotonicMs() - startedMs, requestId, encoded })
    if (this.#deps.dryRun !== true || decision.allowed) return decision
    // What a refusal says to the caller is nothing for the workload.
    const { metadata } = decision.verdict ?? {}
    return { ...decision, allowed: true, verdict: metadata === undefined ? undefined : { allowed: true, metadata } }
  }
}

/** What two who let in want of a request, as if the second had been asked about what the first made of it. */
function together (first: Verdict, second: Verdict): Verdict {
  const { headers = [], responseHeaders = [] } = second
  const replaced = new Set(headers.map(([name]) => name))
  const answered = new Set(responseHeaders.map(([name]) => name))
  return {
    allowed: true,
    headers: [...(first.headers ?? []).filter(([name]) => !replaced.has(name)), ...headers],
    responseHeaders: [...(first.responseHeaders ?? []).filter(([name]) => !answered.has(name)), ...responseHeaders],
    headersToRemove: [...new Set([...(first.headersToRemove ?? []).filter(name => !replaced.has(name)), ...second.headersToRemove ?? []])],
    metadata: first.metadata === undefined ? second.metadata : { ...first.metadata, ...second.metadata }
  }
}
