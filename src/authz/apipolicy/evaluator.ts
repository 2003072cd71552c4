import { serverApiPolicy, type CallerClass } from '../server-api-policy.ts'

/** What SPIRE's policies are asked about a call (`spire-surface` §1.2). */
export interface ApiCall {
  /** A SPIFFE ID; empty where there is none. */
  readonly caller: string
  /** Of a local caller, where it is known; else empty. */
  readonly callerFilePath: string
  /** `/package.Service/Method`. */
  readonly fullMethod: string
  /** The request as `requestDocument` has it; `null` where it is a stream, or was not asked for. */
  readonly req: unknown
}

/** Who may call: each that is true admits a class of callers. */
export interface ApiDecision {
  readonly allow: boolean
  readonly allowIfAdmin: boolean
  readonly allowIfLocal: boolean
  readonly allowIfDownstream: boolean
  readonly allowIfAgent: boolean
}

/** Says for each call which callers are admitted: a table at once, Rego after a while. */
export interface ApiPolicyEvaluator {
  /** For messages and the log, e.g. the file's name. */
  readonly name: string
  /** Whether it looks at requests, which must be decoded for that; no unless it says so. */
  readonly wantsRequest?: boolean
  /** @throws {SpiffeError} `rego_*`: nobody is admitted */
  evaluate (call: ApiCall): ApiDecision | Promise<ApiDecision>
}

const nobody: ApiDecision = { allow: false, allowIfAdmin: false, allowIfLocal: false, allowIfDownstream: false, allowIfAgent: false }

/** Decides by the method alone. A method that the table does not have is nobody's. */
export class TableEvaluator implements ApiPolicyEvaluator {
  readonly name: string
  readonly #decisions: ReadonlyMap<string, ApiDecision>

  constructor (name: string, callersOf: ReadonlyMap<string, readonly CallerClass[]>) {
    this.name = name
    this.#decisions = new Map([...callersOf].map(([method, callers]) => [method, {
      allow: callers.includes('anyone'),
      allowIfAdmin: callers.includes('admin'),
      allowIfLocal: callers.includes('local'),
      allowIfDownstream: callers.includes('downstream'),
      allowIfAgent: callers.includes('agent')
    }]))
  }

  evaluate ({ fullMethod }: ApiCall): ApiDecision { return this.#decisions.get(fullMethod) ?? nobody }
}

/** What holds where the configuration names no other policy. */
export const builtInPolicy: ApiPolicyEvaluator = new TableEvaluator('built in', serverApiPolicy)
