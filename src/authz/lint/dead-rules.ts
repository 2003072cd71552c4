import { trustDomainOf, type SpiffeId } from '../../spiffe/spiffe-id.ts'
import { anything, keysOf } from '../policy/dimensions.ts'
import type { Match } from '../policy/match.ts'
import type { PolicySet } from '../policy/policy-set.ts'
import type { Rule } from '../policy/rule.ts'
import { conjunctionsOf, contradiction, coversRule, implies, type Conjunction } from './conjunction.ts'
import { finding, type Finding } from './finding.ts'
import { isOver } from './window-relations.ts'

/** Codes that say: this rule decides nothing, from now on. */
export const deadCodes = ['never-matches', 'window-past', 'not-federated', 'dead-by-deny', 'shadowed'] as const

/** Of rules that are held against each other; some seconds. */
const mostPairs = 5_000_000

interface Candidate { readonly rule: Rule, readonly position: number, readonly alternatives: readonly Conjunction[] }

/** Rules that can decide nothing: what they say contradicts itself, or others say it before them. */
export function deadRules (set: PolicySet, now: Date): readonly Finding[] {
  const findings = findingsOf(set, now)
  // What one document says of several operations becomes several rules of one name: it is dead when all of them are.
  const parts = countBy(set.rules.map(({ name }) => name))
  const dead = countBy(findings.flatMap(({ code, about }) => deadCodes.some(one => one === code) && about !== undefined ? [about] : []))
  return findings.filter(({ about }) => about === undefined || !dead.has(about) || dead.get(about) === parts.get(about))
}

function countBy (names: readonly string[]): Map<string, number> {
  const counts = new Map<string, number>()
  for (const name of names) counts.set(name, (counts.get(name) ?? 0) + 1)
  return counts
}

function findingsOf (set: PolicySet, now: Date): Finding[] {
  const findings: Finding[] = []
  const wide = new CandidateIndex()
  for (const [position, rule] of set.rules.entries()) {
    const all = conjunctionsOf(rule)
    if (all === undefined) findings.push(finding('too-many-alternatives', rule.name, 'has too many alternatives'))
    // An empty list is meant: nobody.
    else if (all.length > 0) {
      const unknownMeets = rule.action === 'deny' || rule.action === 'custom'
      const reasons = all.map(tests => contradiction(tests, { now, unknownMeets }) ?? whyNotFederated(tests, set, now))
      const alternatives = all.filter((_, i) => reasons[i] === undefined)
      if (alternatives.length > 0) wide.add({ rule, position, alternatives })
      else findings.push(whyDead(rule, all, reasons as string[], now))
    }
  }
  let left = mostPairs
  for (const candidate of wide.all) {
    if (left <= 0) return [...findings, finding('not-all-compared', undefined, `more than ${mostPairs} pairs of rules are about the same`)]
    const near = wide.near(candidate.rule)
    left -= near.size
    findings.push(...beforeIt(candidate, near))
  }
  return findings
}

const notFederated = 'not federated: '

function whyDead (rule: Rule, all: readonly Conjunction[], reasons: readonly string[], now: Date): Finding {
  const told = [...new Set(reasons)].slice(0, 3).join('; ')
  if (reasons.every(reason => reason.startsWith(notFederated))) return finding('not-federated', rule.name,
    told.replaceAll(notFederated, ''))
  const windows = all.map(tests => tests.find(({ fact, any }) => fact.name === 'time' &&
    any?.every(match => match.kind === 'window' && isOver(match.window.spec, now) === 'past')))
  return finding(windows.every(test => test !== undefined) ? 'window-past' : 'never-matches', rule.name, `can match nothing: ${told}`)
}

/** Callers of a trust domain that no scope lets in are refused before any rule is asked. */
function whyNotFederated (tests: Conjunction, { trustDomain, trustDomainAliases, scopes }: PolicySet, now: Date): string | undefined {
  if (trustDomain === undefined) return undefined
  const isIn = (domain: string) => domain === trustDomain || trustDomainAliases.some(alias => alias === domain) || scopes.some(scope =>
    scope.trustDomain === domain && scope.accept.length > 0 && (scope.until === undefined || scope.until > now))
  for (const { fact, any } of tests) {
    if (fact.name !== 'source.id' || any === undefined) continue
    const domains = any.map(domainsOf)
    if (domains.every(one => one !== undefined && !one.some(isIn))) {
      return `${notFederated}callers of ${[...new Set(domains.flat())].join(', ')} are refused before any rule is asked`
    }
  }
  return undefined
}

/** The trust domains whose IDs a match can match; `undefined`: any. */
function domainsOf (match: Match): readonly string[] | undefined {
  switch (match.kind) {
    case 'exact': return match.value.startsWith('spiffe://') ? [trustDomainOf(match.value as SpiffeId)] : undefined
    case 'prefix': return /^spiffe:\/\/[^/]+\//.test(match.value) ? [trustDomainOf(match.value as SpiffeId)] : undefined
    case 'workload': return match.workload.domains
    case 'suffix': case 'present': return match.domains
    default: return undefined
  }
}

/** What decides first, whenever the rule could. */
function beforeIt ({ rule, position, alternatives }: Candidate, near: Iterable<Candidate>): Finding[] {
  if (rule.action !== 'allow' && rule.action !== 'deny') return []
  for (const other of near) {
    const isObeyed = rule.shadow || !other.rule.shadow
    const decidesFirst = other.rule.action === rule.action ? other.position < position : other.rule.action === 'deny'
    if (other.position === position || !isObeyed || !decidesFirst || !coversRule(other.alternatives, alternatives)) continue
    if (other.rule.action !== rule.action) return [finding('dead-by-deny', rule.name, `whatever it allows, ${other.rule.name} denies`)]
    const rest = rule.action === 'allow' && !implies(rule.target, other.rule.target)
      ? '; it still makes its workloads refuse what no rule allows' : ''
    return [finding('shadowed', rule.name, `${other.rule.name} decides first, whenever this could${rest}`)]
  }
  return []
}

/** Finds the rules that may cover one by the places where they stand, so that not all pairs are looked at. */
class CandidateIndex {
  readonly all: Candidate[] = []
  readonly #by = new Map<string, Map<string, Candidate[]>>()

  add (candidate: Candidate): void {
    this.all.push(candidate)
    const { rule } = candidate
    if (rule.action !== 'allow' && rule.action !== 'deny') return
    for (const destination of keysOf('destination.id', rule)) {
      const bySource = this.#by.get(destination) ?? new Map<string, Candidate[]>()
      this.#by.set(destination, bySource)
      for (const source of keysOf('source.id', rule)) {
        const there = bySource.get(source)
        if (there === undefined) bySource.set(source, [candidate])
        else there.push(candidate)
      }
    }
  }

  near (rule: Rule): Set<Candidate> {
    const [destination = anything] = keysOf('destination.id', rule)
    const [source = anything] = keysOf('source.id', rule)
    const found = new Set<Candidate>()
    for (const first of widerKeys(destination)) {
      for (const second of widerKeys(source)) for (const one of this.#by.get(first)?.get(second) ?? []) found.add(one)
    }
    return found
  }
}

/** The key itself and all under which something wider could stand. */
function widerKeys (key: string): string[] {
  const keys = [anything, key]
  const value = key.startsWith('=') ? key.slice(1) : key
  for (let slash = value.indexOf('/'); slash >= 0; slash = value.indexOf('/', slash + 1)) keys.push(value.slice(0, slash + 1))
  return [...new Set(keys)]
}
