import { randomUUID } from 'node:crypto'
import type { Clock } from '../../runtime/clock.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import { parseStrictJsonObject } from '../../spiffe/strict-json.ts'
import { type DecisionsAnswer, decisionsPath } from '../decision-log/decision-api.ts'
import type { Decided, Decider } from '../decider.ts'
import { documentAt } from '../document-path.ts'
import type { ShadowReport } from '../flips/shadow-comparison.ts'
import type { PolicyText } from '../policy/read-policies.ts'
import { requestOfInput } from './input-request.ts'

/** One answer over HTTP. */
export interface HttpAnswer {
  readonly status: number
  readonly body: unknown
  /** `application/json` unless given; then `body` is text. */
  readonly contentType?: string | undefined
  /** Besides the content's; a name may be there several times. */
  readonly headers?: ReadonlyArray<readonly [string, string]> | undefined
}

export interface DataApiDeps {
  readonly decider: Decider
  readonly clock: Pick<Clock, 'now' | 'monotonicMs'>
  /** Documents besides the rules' own, such as Rego's; `undefined`: there is none at this path. */
  readonly documents?: ((path: readonly string[], input: unknown) => Promise<{ readonly result: unknown } | undefined>) | undefined
  readonly policies: () => readonly PolicyText[]
  /** Decisions that are remembered. */
  readonly decisions?: ((asked: { request?: string, decision?: string }) => DecisionsAnswer) | undefined
  /** What a candidate would answer otherwise. */
  readonly flips?: (() => ShadowReport) | undefined
  /** In Prometheus' text format. */
  readonly metrics?: (() => Promise<string>) | undefined
  /** What is wrong; empty: nothing. */
  readonly problems: () => readonly string[]
}

/** Where what a candidate would answer otherwise is told. */
const flipsPath = '/v1/flips'
/** Where the rules' own decision is, as a document. */
const rulesPath = ['assay', 'authz']

/** OPA's Data API, version 1, as far as it only asks: nothing can be changed over it. */
export class DataApi {
  readonly #deps: DataApiDeps

  constructor (deps: DataApiDeps) { this.#deps = deps }

  /** @param target path and query of the request */
  async answer (method: string, target: string, body: Buffer): Promise<HttpAnswer> {
    const asked = URL.parse(target.startsWith('/') ? `http://data${target}` : target)
    if (asked === null) return failure(400, 'invalid_parameter', 'what is asked for is no path')
    const { pathname, searchParams } = asked
    try {
      const [first, second, ...path] = pathname.split('/').slice(1).map(decodeURIComponent)
      if (first === 'health') return this.#health()
      if (pathname === '/metrics' && this.#deps.metrics !== undefined) {
        return { status: 200, body: await this.#deps.metrics(), contentType: 'text/plain; version=0.0.4' }
      }
      if (pathname === decisionsPath && this.#deps.decisions !== undefined) return this.#decisions(searchParams, this.#deps.decisions)
      if (pathname === flipsPath && this.#deps.flips !== undefined) return { status: 200, body: { result: this.#deps.flips() } }
      if (first === 'v1' && second === 'data') return await this.#data(method, path, searchParams, body)
      if (first === 'v1' && second === 'policies') return this.#policies(method, path)
      return failure(404, 'resource_not_found', `${pathname} is not offered here`)
    } catch (error) {
      if (error instanceof URIError) return failure(400, 'invalid_parameter', 'the path is not percent-encoded UTF-8')
      if (!(error instanceof SpiffeError)) throw error
      return error.row.status === 'INVALID_ARGUMENT'
        ? failure(400, 'invalid_parameter', error.message, error.code) : failure(500, 'evaluation_error', error.message, error.code)
    }
  }

  async #data (method: string, path: readonly string[], query: URLSearchParams, body: Buffer): Promise<HttpAnswer> {
    if (method !== 'GET' && method !== 'POST') return failure(405, 'method_not_allowed', `${method} is not offered here`)
    const startedMs = this.#deps.clock.monotonicMs()
    const input = method === 'GET' ? inputOfQuery(query) : inputOfBody(body)
    const result = await this.#document(path.filter(part => part !== ''), input)
    const answer = { ...result, decision_id: randomUUID() }
    if ((query.get('metrics') ?? 'false') === 'false') return { status: 200, body: answer }
    const metrics = { timer_server_handler_ns: Math.round((this.#deps.clock.monotonicMs() - startedMs) * 1e6) }
    return { status: 200, body: { ...answer, metrics } }
  }

  async #document (path: readonly string[], input: unknown): Promise<{ readonly result?: unknown }> {
    if (!rulesPath.every((part, i) => part === path[i])) {
      const document = await this.#deps.documents?.(path, input)
      return document?.result === undefined ? {} : document
    }
    const decided = await this.#deps.decider.decide(requestOfInput(input, this.#deps.clock.now()), undefined, () => input)
    const value = documentAt(documentOf(decided), path.slice(rulesPath.length))
    return value === undefined ? {} : { result: value }
  }

  #decisions (query: URLSearchParams, find: NonNullable<DataApiDeps['decisions']>): HttpAnswer {
    const [request, decision] = [query.get('request'), query.get('decision')]
    if (request === null && decision === null) return failure(400, 'invalid_parameter', 'say which: ?request=ID or ?decision=ID')
    return { status: 200, body: find({ ...request === null ? {} : { request }, ...decision === null ? {} : { decision } }) }
  }

  #policies (method: string, [id]: readonly string[]): HttpAnswer {
    if (method !== 'GET') return failure(405, 'method_not_allowed', 'policies are changed at their source, and read here')
    const policies = this.#deps.policies().map(({ name, text }) => ({ id: name, raw: text }))
    if (id === undefined || id === '') return { status: 200, body: { result: policies } }
    const policy = policies.find(one => one.id === id)
    if (policy === undefined) return failure(404, 'resource_not_found', 'there is no such policy')
    return { status: 200, body: { result: policy } }
  }

  #health (): HttpAnswer {
    const problems = this.#deps.problems()
    return problems.length === 0 ? { status: 200, body: {} } : { status: 500, body: { error: 'not healthy', problems } }
  }
}

function documentOf ({ audits, revision, shadow, ...decision }: Decided): Readonly<Record<string, unknown>> {
  const short = ({ allowed, reason, rule }: Pick<Decided, 'allowed' | 'reason' | 'rule'>) =>
    ({ allow: allowed, reason, ...rule === undefined ? {} : { rule } })
  return { ...short(decision), audits, revision, ...shadow === undefined ? {} : { shadow: short(shadow) } }
}

function inputOfQuery (query: URLSearchParams): unknown {
  const text = query.get('input')
  return text === null ? undefined : parseStrictJsonObject(text)
}

function inputOfBody (body: Buffer): unknown {
  return body.length === 0 ? undefined : parseStrictJsonObject(body)['input']
}

function failure (status: number, code: string, message: string, reason?: string): HttpAnswer {
  return { status, body: { code, message, ...reason === undefined ? {} : { errors: [{ code: reason, message }] } } }
}
