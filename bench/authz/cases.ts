import { Random } from '../../test/fakes/random.ts'

/** One rule: exactly this caller, one method, one path and what is below it. */
interface BenchRule { readonly destination: string, readonly source: string, readonly method: string, readonly path: string }
export interface BenchRequest { readonly destination: string, readonly source: string, readonly method: string, readonly path: string }

/** Rules and requests that both sides get, with the answers of a walk over all rules. */
export interface BenchCase {
  readonly name: string
  readonly rules: readonly BenchRule[]
  readonly requests: ReadonlyArray<BenchRequest & { readonly allowed: boolean }>
}

const trustDomain = 'example.org'
const methods = ['GET', 'POST', 'PUT', 'DELETE']
const perWorkload = 20

/** @param shape `spread`: 20 rules for each workload; `single`: all on one */
export function makeCase (count: number, shape: 'spread' | 'single'): BenchCase {
  const random = new Random(count)
  const workloads = shape === 'single' ? 1 : Math.ceil(count / perWorkload)
  const id = (kind: string, n: number) => `spiffe://${trustDomain}/ns/n${n % 50}/sa/${kind}-${n}`
  const rules = Array.from({ length: count }, (_, i): BenchRule => ({
    destination: id('server', i % workloads), source: id('client', random.below(Math.max(10, count / 5))), method: random.pick(methods),
    path: `/api/v${random.below(3)}/things-${random.below(200)}`
  }))
  const requests = Array.from({ length: 1_000 }, () => {
    const rule = random.pick(rules)
    const request = {
      destination: rule.destination,
      source: random.chance(0.9) ? rule.source : id('client', random.below(1_000)),
      method: random.chance(0.9) ? rule.method : random.pick(methods),
      path: `${random.chance(0.85) ? rule.path : '/api/v9/else'}/${random.below(1_000)}`
    }
    return { ...request, allowed: rules.some(one => lets(one, request)) }
  })
  return { name: `${count.toLocaleString('en-US')} rules, ${shape}`, rules, requests }
}

function lets (rule: BenchRule, { destination, source, method, path }: BenchRequest): boolean {
  return rule.destination === destination && rule.source === source && rule.method === method && path.startsWith(`${rule.path}/`)
}

export function asAssay ({ rules }: BenchCase): string {
  return JSON.stringify([
    { apiVersion: 'assay/v1', kind: 'Settings', trustDomain, defaultAction: 'deny' },
    { apiVersion: 'assay/v1', kind: 'Policy', name: 'bench', rules: rules.map(({ destination, source, method, path }, i) => ({
      name: `r${i}`, action: 'allow', from: [{ ids: [source] }], to: [{ ids: [destination], methods: [method], paths: [`${path}/*`] }]
    })) }
  ])
}

/** As OPA's index of rules wants it: one Rego rule for each, of equalities, the path last. */
export function asRego ({ rules }: BenchCase): string {
  const text = rules.map(({ destination, source, method, path }) => `allow if {
  input.attributes.destination.principal == ${JSON.stringify(destination)}
  input.attributes.source.principal == ${JSON.stringify(source)}
  input.attributes.request.http.method == ${JSON.stringify(method)}
  startswith(input.attributes.request.http.path, ${JSON.stringify(`${path}/`)})
}`)
  return ['package envoy.authz', 'default allow := false', ...text, ''].join('\n\n')
}
