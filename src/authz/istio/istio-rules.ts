import type { Rule, Test } from '../policy/rule.ts'
import { parseTextMatch } from '../policy/match-text.ts'
import type { Fact } from '../policy/facts.ts'
import type { Match } from '../policy/match.ts'
import type { AuthorizationPolicy, IstioOperation, IstioRule } from './authorization-policy.ts'
import { sourceAlternatives } from './callers.ts'
import { conditionTests } from './conditions.ts'
import type { Path, ReadingContext } from './reading-context.ts'
import { combined, type Alternatives } from './request-principal.ts'
import { parseHostMatch, parseIstioPath, parsePort } from './value-match.ts'

/** Of one rule, once lists of request principals are multiplied. */
const mostAlternatives = 1_000

/** The rules of one policy, in its order; without any in it, one that matches nothing, for the sake of the workloads it is about. */
export function rulesOf (
  { metadata, spec }: AuthorizationPolicy, isMeshWide: boolean, context: ReadingContext
): Rule[] {
  const policy = `${metadata.namespace}/${metadata.name}`
  const common = {
    policy,
    action: context.action,
    provider: spec.provider?.name,
    target: targetTests(metadata.namespace, spec.selector?.matchLabels ?? {}, isMeshWide, context),
    shadow: metadata.annotations?.isDryRun ?? false
  }
  const { rules = [] } = spec
  if (rules.length === 0) return [{ ...common, name: `${policy}/0`, from: [], to: undefined, when: [] }]
  return rules.map((rule, i) => ({ ...common, name: `${policy}/${i}`, ...partsOf(rule, ['spec', 'rules', i], context) }))
}

function targetTests (
  namespace: string, labels: Readonly<Record<string, string>>, isMeshWide: boolean, { domains }: ReadingContext
): Test[] {
  const fact = { name: 'destination.id' } as const
  const inNamespace: Match = { kind: 'workload', workload: { domains, namespace: { kind: 'exact', value: namespace } } }
  const place = isMeshWide ? [] : [`k8s:ns:${namespace}`]
  const selectors = [...place, ...Object.entries(labels).map(([key, value]) => `k8s:pod-label:${key}:${value}`)]
  return [
    ...isMeshWide ? [] : [{ fact, any: [inNamespace] }],
    ...selectors.length === place.length ? [] : [{ fact, any: [{ kind: 'selected', selectors } as const] }]
  ]
}

function partsOf (rule: IstioRule, path: Path, context: ReadingContext): Pick<Rule, 'from' | 'to' | 'when'> {
  const sources = rule.from?.flatMap(({ source }, i) => sourceAlternatives(source, [...path, 'from', i, 'source'], context))
  const conditions = rule.when?.map((condition, i) => conditionTests(condition, [...path, 'when', i], context)) ?? []
  const several = conditions.filter(alternatives => alternatives.length > 1)
  const size = several.reduce((product, { length }) => product * length, sources?.length ?? 1)
  if (size > mostAlternatives) {
    context.refuse(path, `request principals make more than ${mostAlternatives} alternatives of it`)
    return { from: [], to: undefined, when: [] }
  }
  const from = several.reduce<Alternatives | undefined>((all, alternatives) => combined(all ?? [[]], alternatives), sources)
  const to = rule.to?.map(({ operation }, i) => operationTests(operation, [...path, 'to', i, 'operation'], context))
  const when = conditions.filter(alternatives => alternatives.length === 1).flatMap(([tests = []]) => tests)
  return { from, to, when: context.action === 'allow' ? withoutTcp({ from, to, when }) : when }
}

function operationTests (operation: IstioOperation, path: Path, context: ReadingContext): Test[] {
  const test = (fact: Fact, key: keyof IstioOperation, notKey: keyof IstioOperation, read: (text: string) => Match): Test[] =>
    operation[key] === undefined && operation[notKey] === undefined ? [] : [{
      fact, any: context.each([...path, key], operation[key], read), none: context.each([...path, notKey], operation[notKey], read)
    }]
  return [
    ...test({ name: 'destination.port' }, 'ports', 'notPorts', parsePort),
    // Istio compares the whole authority: a port in it is part of the value.
    ...test({ name: 'authority' }, 'hosts', 'notHosts', parseHostMatch),
    ...test({ name: 'method' }, 'methods', 'notMethods', parseTextMatch),
    ...test({ name: 'path' }, 'paths', 'notPaths', parseIstioPath)
  ]
}

const ofHttp: ReadonlySet<string> = new Set(['authority', 'method', 'path', 'header', 'claim', 'jwt.audience', 'jwt.presenter'])

/** On plain TCP an ALLOW rule lets nothing in as soon as any part of it is about HTTP, be it one of several alternatives. */
function withoutTcp ({ from, to, when }: Pick<Rule, 'from' | 'to' | 'when'>): readonly Test[] {
  const isHttp = (tests: readonly Test[]) => tests.some(({ fact }) => ofHttp.has(fact.name))
  const lists = [from ?? [], to ?? []]
  const isNeeded = lists.some(list => list.some(isHttp)) && !isHttp(when) && !lists.some(list => list.length > 0 && list.every(isHttp))
  return isNeeded ? [...when, { fact: { name: 'method' }, any: [{ kind: 'present' }] }] : when
}
