import { normalizeSelectors, formatSelector, parseSelector } from '../../spiffe/selector.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import type { Finding } from './finding.ts'
import { excludeEachOther } from './label-selector.ts'
import { findingAt, type Manifest } from './manifest.ts'
import { bareTrustDomain } from './partners.ts'
import { recordOf, textOf, textsOf, type Raw } from './raw-fields.ts'
import { templateFacts } from './template-facts.ts'

/** More with one ID are not compared pairwise. */
const maxCompared = 300

/** What two resources say of one thing. Those of different classes are for different controllers. */
export function duplicates (manifests: readonly Manifest[]): readonly Finding[] {
  return [
    ...groups(manifests, 'ClusterSPIFFEID', ({ spiffeIDTemplate }) => normalizeTemplate(textOf(spiffeIDTemplate))).flatMap(sameId),
    ...groups(manifests, 'ClusterStaticEntry', entryKey).flatMap(([first, ...others]) => others.map(other =>
      findingAt(other, ['spec'], 'duplicate-entry', `is the same entry as ${first.name}: SPIFFE ID, parent and selectors are equal`))),
    ...groups(manifests, 'ClusterFederatedTrustDomain', ({ trustDomain }) => bareTrustDomain(trustDomain))
      .flatMap(([first, ...others]) => others.map(other =>
        findingAt(other, ['spec', 'trustDomain'], 'duplicate-trust-domain', `is about the same trust domain as ${first.name}`)))
  ]
}

function sameId (group: Group): readonly Finding[] {
  const [first] = group
  if (group.length > maxCompared) {
    return [findingAt(first, ['spec', 'spiffeIDTemplate'], 'not-all-compared', `${group.length} resources have this template`)]
  }
  const isOneId = !templateFacts(textOf(recordOf(first.body['spec'])['spiffeIDTemplate'])).usesPod
  return group.flatMap((other, index) => {
    const earlier = group.slice(0, index).find(one => isOneId || overlap(one, other))
    if (earlier === undefined) return []
    const message = isOneId ? `gives pods the same ID as ${earlier.name}`
      : `and ${earlier.name} give the same IDs, to pods that both may select`
    return [findingAt(other, ['spec', 'spiffeIDTemplate'], 'duplicate-id', message)]
  })
}

function overlap (a: Manifest, b: Manifest): boolean {
  const [left, right] = [recordOf(a.body['spec']), recordOf(b.body['spec'])]
  // Where another one counts, a fallback does not.
  if ((left['fallback'] === true) !== (right['fallback'] === true)) return false
  return !['namespaceSelector', 'podSelector'].some(name => excludeEachOther(left[name], right[name]))
}

/** As templates are compared: white space in actions means nothing, and `$` is the root as the dot is. */
function normalizeTemplate (template: string): string {
  return template.replace(/\{\{(-?)\s*|\s*(-?)\}\}/g, whole => whole.replaceAll(/\s/g, '')).replaceAll('$.', '.')
}

function entryKey ({ spiffeID, parentID, selectors }: Raw): string {
  try {
    const normal = normalizeSelectors(textsOf(selectors).map(parseSelector)).map(formatSelector)
    return JSON.stringify([spiffeID, parentID, normal])
  } catch (error) {
    if (error instanceof SpiffeError) return ''
    throw error
  }
}

type Group = readonly [Manifest, ...Manifest[]]

/** Resources of one kind and class that have a key in common with another. @param keyOf empty: compared with nothing */
function groups (manifests: readonly Manifest[], kind: string, keyOf: (spec: Raw) => string): readonly Group[] {
  const byKey = new Map<string, [Manifest, ...Manifest[]]>()
  for (const manifest of manifests) {
    if (manifest.kind !== kind) continue
    const spec = recordOf(manifest.body['spec'])
    const key = keyOf(spec)
    if (key === '') continue
    const whole = JSON.stringify([textOf(spec['className']), key])
    const group = byKey.get(whole)
    if (group === undefined) byKey.set(whole, [manifest])
    else group.push(manifest)
  }
  return [...byKey.values()].filter(group => group.length > 1)
}
