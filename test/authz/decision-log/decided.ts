import { PolicyEngine } from '../../../src/authz/policy/policy-engine.ts'
import { readPolicies } from '../../../src/authz/policy/read-policies.ts'
import type { AuthzRequest } from '../../../src/authz/policy/request.ts'
import type { Decision } from '../../../src/authz/policy/decision.ts'
import type { DropReason, SinkObserver } from '../../../src/authz/decision-log/sink.ts'
import { parseSpiffeId } from '../../../src/spiffe/spiffe-id.ts'

export const engine = new PolicyEngine(readPolicies([{ name: 'test', text: `apiVersion: assay/v1
kind: Settings
trustDomain: own.test
defaultAction: deny
---
apiVersion: assay/v1
kind: Policy
name: p
rules:
- name: get
  action: allow
  from: [{ ids: [spiffe://own.test/web] }]
  to: [{ methods: [GET] }]
` }]))

/** A request with the headers given, and what was decided: allowed if it is GET. */
export function decided (
  headers: Readonly<Record<string, string>> = {}, { method = 'GET', path = '/', claims }: { method?: string, path?: string,
    claims?: object } = {}
): [request: AuthzRequest, decision: Decision, latencyMs: number] {
  const request: AuthzRequest = {
    source: { id: parseSpiffeId('spiffe://own.test/web'), address: '10.0.0.1' },
    destination: { id: parseSpiffeId('spiffe://own.test/db'), port: 80 },
    http: { method, path, host: 'db', headers: new Map(Object.entries(headers)), claims: claims as Record<string, unknown> | undefined },
    tls: { sni: 'db' },
    time: new Date('2026-01-01T00:00:00.5Z')
  }
  return [request, engine.decide(request), 0.25]
}

/** Counts what sinks tell. */
export class Observed implements SinkObserver {
  readonly failures: unknown[] = []
  readonly #counts = new Map<string, number>()

  written (_sink: string, count: number): void { this.#add('written', count) }
  dropped (_sink: string, reason: DropReason, count: number): void { this.#add(reason, count) }
  failed (_sink: string, error: unknown): void { this.failures.push(error) }

  get counts (): Record<string, number> { return Object.fromEntries(this.#counts) }
  #add (key: string, count: number): void { this.#counts.set(key, (this.#counts.get(key) ?? 0) + count) }
}
