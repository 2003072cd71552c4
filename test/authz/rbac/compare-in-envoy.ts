import { once } from 'node:events'
import { createServer, type AddressInfo } from 'node:net'
import { PolicyEngine } from '../../../src/authz/policy/policy-engine.ts'
import type { PolicySet } from '../../../src/authz/policy/policy-set.ts'
import { resolveSelectors } from '../../../src/authz/policy/resolve-selectors.ts'
import type { AuthzRequest } from '../../../src/authz/policy/request.ts'
import { parseNetwork } from '../../../src/authz/policy/network.ts'
import type { Match } from '../../../src/authz/policy/match.ts'
import type { Test } from '../../../src/authz/policy/rule.ts'
import { compileRbac, type CompiledRbac } from '../../../src/authz/rbac/compile-rbac.ts'
import { parseSpiffeId, type SpiffeId } from '../../../src/spiffe/spiffe-id.ts'
import { freePort } from '../../fakes/free-port.ts'
import { Random } from '../../fakes/random.ts'
import { judge } from '../policy/oracle.ts'
import { randomPolicies, selectedIds } from '../policy/policies-at-random.ts'
import { RbacLab, type LabPorts } from './rbac-lab.ts'
import { bytesComeBack, openTls, RawHttp, type Caller } from './tls-client.ts'

const destinations = ['web', 'web/front', 'db', 'team/a/x'].map(path => parseSpiffeId(`spiffe://own.test/${path}`))
const callers = [...['web', 'web/front', 'web/front/1', 'db', 'team/a/x', 'team/a/y', 'team/b/x'].map(path => `spiffe://own.test/${path}`),
  ...['api', 'api/v1', 'other'].map(path => `spiffe://far.test/${path}`), undefined].map(id => id === undefined ? undefined : parseSpiffeId(id))
const addresses = ['127.1.0.5', '127.2.0.5', '127.99.0.1']
const names = ['shop.test', 'other', undefined]
const methods = ['GET', 'POST', 'PUT', 'DELETE']
const hosts = ['shop.test', 'SHOP.test:8080', 'api.shop.test.', 'other', 'shop.test.:443', 'shop.test..', '[::1]:80', 'shopper']
const headerLines = [[], [], ['x-test: one'], ['X-Test: two'], ['x-test: one', 'x-test: two'], ['x-test: '],
  ['x-forwarded-client-cert: By=spiffe://own.test/db;URI=spiffe://own.test/web', 'x-test: twothree']]
/** Regular, irregular, and what servers disagree about. */
const targets = ['/', '/api', '/api/v1', '/api/v1/users', '/api/v2/users', '/static/x.js', '/api/v1/users?x=1', '/api?', '/API',
  '/a//b', '//api', '/api/../admin', '/api/./v1', '/api;x=1', '/%2e%2e/api', '/api%2fv1', '/api%2Fv1', '/api\\v1', '/api%5cv1',
  '/api/', '/api/v1%00',
  '/api%20x', '/api%c3%a9', '/api%C3%A9?%2f', '/api/v1/users/', '/api/{*}/users', '/static/x.js?y=/a//b', '/api%', '/api%zz', '/api...',
  '/.../x.js', '/api%3f', '/api%25', '/api"<>', '/api?#', '/api/v1;/users', '/static/%2e', '/*', '/api*']
/** Envoy's own normalization undoes what is needless here. */
const needless = ['/%61pi', '/api%2Ev1', '/api/v1/%75sers', '/api/%2e%2e/api', '/static/x%2ejs']

export interface Disagreement { readonly [key: string]: unknown }

export interface Comparison {
  readonly disagreements: readonly Disagreement[]
  /** How often what came out, such as `http allow rule`. */
  readonly seen: ReadonlyMap<string, number>
  readonly external: number
}

export interface CompareOptions {
  readonly seed: number
  readonly sets: number
  /** HTTP requests and TCP connections per set. */
  readonly requests: number
  readonly connections: number
}

interface Case { readonly set: PolicySet, readonly destination: SpiffeId, readonly http: CompiledRbac, readonly network: CompiledRbac }

const time = new Date('2026-06-01T12:00:00Z')

/** Runs random policy sets in one real Envoy and decides the same requests by the engine and by the oracle. */
export async function compareInEnvoy ({ seed, sets, requests, connections }: CompareOptions): Promise<Comparison> {
  const random = new Random(seed)
  await using scope = new AsyncDisposableStack()
  const echo = createServer(socket => { socket.on('error', () => undefined).pipe(socket) }).listen(0, '127.0.0.1')
  await once(echo, 'listening')
  scope.defer(() => { echo.close() })
  const free = await Promise.all(Array.from({ length: 6 }, freePort))
  const ports = { http: { a: free[0], b: free[1], c: free[2] }, tcp: { a: free[3], b: free[4], c: free[5] } } as LabPorts
  const cases: Case[] = []
  let external = 0
  while (cases.length < sets) {
    // Every other one with what Envoy cannot be told.
    const more = cases.length % 2 === 1
    const set = more ? resolveSelectors(randomPolicies(random, 4, true), selectedIds)
      : randomPolicies(random, random.pick([4, 12, 12, 12, 60]))
    const destination = random.pick(destinations)
    // Both forms, whatever the number of rules.
    const mostInList = random.pick([0, 1_000])
    // The form of one filter is that of connections: proxies get no other use of it.
    const inOne = random.pick([false, true])
    // No caller here has a certificate with several names.
    const oneName = random.pick([false, true])
    const common = { now: time, mostInList, oneName }
    const http = compileRbac(here(set, ports.http), destination, { ...common, kind: 'http', apart: true, noTokens: true })
    const network = compileRbac(here(set, ports.tcp), destination, { ...common, kind: 'network', inOne })
    if (http.concerns === true) external++
    else if (more === (http.concerns !== false)) cases.push({ set, destination, http, network })
  }
  const lab = scope.use(await RbacLab.start(ports, (echo.address() as AddressInfo).port,
    cases.map(({ http, network }) => ({ http: http.filters, network: network.filters, concerns: http.concerns }))))
  const run = new Run(lab, ports, cases)
  scope.defer(() => { run.close() })
  for (let i = 0; i < sets; i++) {
    for (let n = 0; n < requests; n++) await run.http(random, i)
    for (let n = 0; n < connections; n++) await run.tcp(random, i)
    if (run.disagreements.length > 4) break
  }
  return { disagreements: run.disagreements, seen: run.seen, external }
}

class Run {
  readonly disagreements: Disagreement[] = []
  readonly seen = new Map<string, number>()
  readonly #lab: RbacLab
  readonly #ports: LabPorts
  readonly #cases: readonly Case[]
  readonly #engines = new Map<string, { set: PolicySet, engine: PolicyEngine }>()
  readonly #clients = new Map<string, RawHttp>()
  readonly #normal = new Map<string, string | undefined>()

  constructor (lab: RbacLab, ports: LabPorts, cases: readonly Case[]) {
    this.#lab = lab
    this.#ports = ports
    this.#cases = cases
  }

  async http (random: Random, i: number): Promise<void> {
    const { destination } = this.#cases[i] as Case
    const { id, caller } = await this.#caller(random)
    const listener = random.pick(['http/a', 'http/b', 'http/c', ...id === undefined ? [] : ['http/normal']])
    const target = random.pick(listener === 'http/normal' ? [...targets, ...needless] : targets)
    const [method, host, lines] = [random.pick(methods), random.pick(hosts), random.pick(headerLines)]
    const path = await this.#seenPath(listener, target, caller)
    if (path === undefined) return this.#count('http malformed')
    const answer = await this.#ask(listener, caller, method, target, [`x-case: ${i}`, `host: ${host}`, ...lines])
    const tests = lines.filter(line => /^x-test/i.test(line)).map(line => line.slice(line.indexOf(':') + 1).trim())
    // What somebody else is asked about this Envoy decides nothing of.
    if (answer.status === 303) return this.#count('http asked')
    if ((this.#cases[i] as Case).http.concerns !== false) this.#count('http beside what is asked')
    this.#compare(i, 'http', answer.status === 307, `${answer.status} ${answer.body}`, path, {
      source: { id, address: caller.address },
      destination: { id: destination, port: this.#lab.port(listener) },
      http: { method, path, host, headers: new Map(tests.length === 0 ? [] : [['x-test', tests.join(',')]]) },
      tls: { version: 'TLSv1.3', sni: caller.serverName ?? '' },
      time
    })
  }

  async tcp (random: Random, i: number): Promise<void> {
    const { destination, network } = this.#cases[i] as Case
    if (network.concerns !== false) return
    const { id, caller } = await this.#caller(random)
    const port = this.#lab.port(random.pick(['tcp/a', 'tcp/b', 'tcp/c']))
    const allowed = await bytesComeBack(port, caller, `case-${i}`)
    this.#compare(i, 'tcp', allowed, '', '', {
      source: { id, address: caller.address }, destination: { id: destination, port },
      tls: { version: 'TLSv1.3', sni: caller.serverName ?? '' }, time
    })
  }

  close (): void { for (const client of this.#clients.values()) client[Symbol.dispose]() }

  #compare (i: number, kind: 'http' | 'tcp', allowed: boolean, answer: string, path: string, request: AuthzRequest): void {
    const { set, engine } = this.#engine(i, kind)
    const decision = engine.decide(request)
    // The oracle reads plain paths alone.
    const verdict = /%|\/\.\.\./.test(path) ? undefined : judge(set, request)
    // Whose rules ask for times is decided by them at any other time as well.
    const later = engine.decide({ ...request, time: new Date(time.getTime() + 100 * 3_600_000) })
    const timeless = later.allowed === decision.allowed && later.rule === decision.rule && decision.consult.length === 0
    const agree = timeless && allowed === decision.allowed && (verdict === undefined || verdict.startsWith('allow') === allowed)
    const [, named] = /matched_policy\[(.*)\]$/.exec(answer) ?? []
    const namesIt = named === undefined || decision.allowed || isNamed(named, decision.reason, set)
    if (!agree || !namesIt) {
      this.disagreements.push({ i, kind, allowed, answer, decision, verdict, request, rules: set.rules, scopes: set.scopes })
    }
    this.#count(`${kind} ${decision.allowed ? 'allow' : 'deny'} ${decision.reason}`)
  }

  async #caller (random: Random): Promise<{ id: SpiffeId | undefined, caller: Caller }> {
    const id = random.pick(callers)
    const svid = id === undefined ? undefined : await this.#lab.svid(id)
    return { id, caller: { svid, address: random.pick(addresses), serverName: random.pick(names) } }
  }

  /** What filters see as the path; `undefined`: Envoy refuses such a request by itself. */
  async #seenPath (listener: string, target: string, caller: Caller): Promise<string | undefined> {
    const key = `${listener === 'http/normal'} ${target}`
    if (!this.#normal.has(key)) {
      const { status, headers } = await this.#ask(listener, caller, 'GET', target, ['x-case: probe', 'host: h'])
      this.#normal.set(key, status === 307 ? headers.get('location')?.replace('https://h', '') : undefined)
    }
    return this.#normal.get(key)
  }

  async #ask (listener: string, caller: Caller, method: string, target: string, lines: readonly string[]) {
    const key = JSON.stringify([listener, caller.svid?.id, caller.address, caller.serverName])
    let client = this.#clients.get(key)
    if (client === undefined || client.closed) this.#clients.set(key, client = new RawHttp(await openTls(this.#lab.port(listener), caller)))
    return await client.ask(method, target, lines)
  }

  #engine (i: number, kind: 'http' | 'tcp'): { set: PolicySet, engine: PolicyEngine } {
    const key = `${kind}${i}`
    const known = this.#engines.get(key)
    if (known !== undefined) return known
    const set = here((this.#cases[i] as Case).set, this.#ports[kind])
    const made = { set, engine: new PolicyEngine(set) }
    this.#engines.set(key, made)
    return made
  }

  #count (what: string): void { this.seen.set(what, (this.seen.get(what) ?? 0) + 1) }
}

/** Envoy names a rule that refuses, or nothing that lets in. */
function isNamed (named: string, reason: string, { rules }: PolicySet): boolean {
  if (reason === 'federation') return named.startsWith('federation')
  if (reason === 'rule') return rules.some(({ name, action }) => name === named.replace(/#\d+$/, '') && action === 'deny')
  return named === 'none'
}

/** The same policies, about ports and addresses that there are here. */
function here (set: PolicySet, ports: Readonly<Record<'a' | 'b', number>>): PolicySet {
  const match = (one: Match): Match => one.kind === 'network' && one.network.text.startsWith('10.')
    ? { kind: 'network', network: parseNetwork(one.network.text.replace('10.', '127.')) ?? one.network } : one
  const port = (one: Match): Match => one.kind === 'exact' ? { ...one, value: String(one.value === '80' ? ports.a : ports.b) } : one
  const test = (one: Test): Test => {
    const change = one.fact.name === 'destination.port' ? port : match
    return { ...one, any: one.any?.map(change), none: one.none?.map(change) }
  }
  return {
    ...set, rules: set.rules.map(rule => ({
      ...rule, from: rule.from?.map(list => list.map(test)), to: rule.to?.map(list => list.map(test)), when: rule.when.map(test)
    }))
  }
}
