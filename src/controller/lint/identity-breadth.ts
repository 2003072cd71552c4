import type { Finding, FindingCode } from './finding.ts'
import { breadthOf, matchesLabels } from './label-selector.ts'
import { findingAt, type Manifest } from './manifest.ts'
import { recordOf } from './raw-fields.ts'
import { templateFacts } from './template-facts.ts'

/** How many pods are meant, however few there are now. */
export function breadth (manifest: Manifest): readonly Finding[] {
  const { namespaceSelector, podSelector, admin, downstream, fallback } = recordOf(manifest.body['spec'])
  const [namespaces, pods] = [breadthOf(namespaceSelector), breadthOf(podSelector)]
  const isOpen = namespaces !== 'some' && pods !== 'some'
  const wide = isOpen ? 'every pod of the cluster' : namespaces !== 'some' ? 'pods of every namespace' : 'every pod of the namespaces'
  const isNarrow = namespaces === 'some' && pods === 'some'
  const seen = namespaces !== 'all' && matchesLabels(namespaceSelector, new Map([['kubernetes.io/metadata.name', 'kube-system']]))
  const excluding = namespaces === 'all-but' ? 'namespaceSelector' : isOpen && pods === 'all-but' ? 'podSelector' : undefined
  const at = (field: string, code: FindingCode, message: string) => findingAt(manifest, ['spec', field], code, message)
  return [
    ...namespaces === 'all' && pods === 'all' && fallback !== true
      ? [at('spiffeIDTemplate', 'every-pod', 'has no selector: every pod of the cluster is meant, of namespaces to come too')] : [],
    ...namespaces === 'all' && pods !== 'all'
      ? [at('podSelector', 'every-namespace', 'has no namespaceSelector: pods of every namespace are meant')] : [],
    ...excluding === undefined ? [] : [at(excluding, 'all-but-some', 'only excludes: whatever is made later is meant too')],
    ...seen ? [at('namespaceSelector', 'system-namespace', 'selects kube-system too')] : [],
    ...admin === true && !isNarrow ? [at('admin', 'admin-for-many', `lets ${wide} administer the server`)] : [],
    ...downstream === true && !isNarrow
      ? [at('downstream', 'downstream-for-many', `gives ${wide} CA certificates, with which any ID can be signed`)] : []
  ]
}

/** Who gets the same ID as somebody else. */
export function sharing (manifest: Manifest, template: string): readonly Finding[] {
  const { namespaceSelector, podSelector } = recordOf(manifest.body['spec'])
  const { usesPod, usesPlace, usesOwnWords } = templateFacts(template)
  const at = (code: FindingCode, message: string) => [findingAt(manifest, ['spec', 'spiffeIDTemplate'], code, message)]
  if (!usesPod && breadthOf(podSelector) !== 'some') {
    return breadthOf(namespaceSelector) === 'some'
      ? at('one-id-for-namespace', 'uses nothing of the pod: all pods of the namespaces get one ID')
      : at('one-id-for-all', 'uses nothing of the pod: all pods of the cluster get one ID')
  }
  // Whom the namespaces are opened to decides who can write labels there.
  if (!usesOwnWords || usesPlace || breadthOf(namespaceSelector) === 'some') return []
  return at('identity-chosen-by-pod', 'comes from labels, annotations or the name alone: who makes a pod anywhere chooses its ID')
}
