import { SpiffeError } from '../../spiffe/errors.ts'
import type { PodFacts } from '../kubernetes/cluster-facts.ts'
import { selects } from '../kubernetes/label-selector.ts'
import type { ClusterSpiffeId } from '../resources/cluster-spiffe-id.ts'
import { byPreference, type Resource, type ResourceKind } from '../resources/resource.ts'
import type { ClusterView } from './cluster-view.ts'
import { declarePod, type Declaration, type PodOutcome } from './declare-pod.ts'
import { type Naming, renderStaticEntry } from './desired-entry.ts'

/** What a controller is told to care for. */
export interface Scope {
  readonly naming: Naming
  readonly ignores: (namespace: string) => boolean
  readonly cares: (resource: Resource<unknown>) => boolean
  /** Kinds that are reconciled; others are as if there were none. */
  readonly kinds: ReadonlySet<ResourceKind>
}

/** `ClusterSPIFFEID`'s `status.stats` but for what the server says (spire-surface §8.2). */
export interface SelectionStats {
  namespacesSelected: number
  namespacesIgnored: number
  podsSelected: number
  podEntryRenderFailures: number
}

const reasonsShown = 3

/**
 * Which entries should be on the server, by key, and who wants them: kept for all pods, computed anew for those that changed. What it holds
 * follows from the cluster view and the scope alone.
 */
export class DesiredState {
  readonly #scope: Scope
  readonly #outcomes = new Map<string, PodOutcome>()
  /** By key; the first is who counts. */
  readonly #declared = new Map<string, Declaration[]>()
  #static: { readonly declarations: readonly Declaration[], readonly failures: ReadonlyMap<string, string> } = {
    declarations: [], failures: new Map()
  }

  constructor (scope: Scope) { this.#scope = scope }

  /** Who wants the entry with this key, the one that counts first. */
  of (key: string): readonly Declaration[] { return this.#declared.get(key) ?? [] }
  keys (): Iterable<string> { return this.#declared.keys() }
  get size (): number { return this.#declared.size }
  outcomeOf (podUid: string): PodOutcome | undefined { return this.#outcomes.get(podUid) }
  /** Why a static entry is none, by the resource's UID. */
  get staticFailures (): ReadonlyMap<string, string> { return this.#static.failures }

  /** Everything anew. @returns keys that were or are declared */
  refresh (view: ClusterView): ReadonlySet<string> {
    const touched = new Set(this.#declared.keys())
    this.#outcomes.clear()
    this.#declared.clear()
    this.#static = this.#declareStatic(view)
    for (const declaration of this.#static.declarations) this.#add(declaration)
    const resources = this.#resourcesIn(view)
    for (const pod of view.pods()) this.#set(pod, view, resources)
    for (const key of this.#declared.keys()) touched.add(key)
    return touched
  }

  /** These pods anew. @returns keys that were or are declared for them */
  refreshPods (uids: Iterable<string>, view: ClusterView): ReadonlySet<string> {
    const touched = new Set<string>()
    const resources = this.#resourcesIn(view)
    for (const uid of uids) {
      for (const declaration of this.#outcomes.get(uid)?.declarations ?? []) touched.add(this.#remove(declaration))
      this.#outcomes.delete(uid)
      const pod = view.pod(uid)
      if (pod === undefined) continue
      for (const { entry } of this.#set(pod, view, resources).declarations) touched.add(entry.id)
    }
    return touched
  }

  /** Of one ClusterSPIFFEID, and the first reasons why pods got no entry of it. */
  statsOf (resource: ClusterSpiffeId, view: ClusterView): { readonly stats: SelectionStats, readonly reasons: readonly string[] } {
    const stats = { namespacesSelected: 0, namespacesIgnored: 0, podsSelected: 0, podEntryRenderFailures: 0 }
    const reasons: string[] = []
    if ('error' in resource.spec) return { stats, reasons }
    for (const { name, labels } of view.namespaces()) {
      if (!selects(resource.spec.value.namespaceSelector, labels)) continue
      stats.namespacesSelected++
      if (this.#scope.ignores(name)) stats.namespacesIgnored++
    }
    for (const { selectedBy, skips } of this.#outcomes.values()) {
      if (selectedBy.some(({ uid }) => uid === resource.uid)) stats.podsSelected++
      for (const { by, reason, rule } of skips) {
        if (by?.uid !== resource.uid || reason !== 'render_failed') continue
        stats.podEntryRenderFailures++
        if (reasons.length < reasonsShown && rule !== undefined) reasons.push(rule)
      }
    }
    return { stats, reasons }
  }

  #resourcesIn (view: ClusterView): readonly ClusterSpiffeId[] {
    return this.#scope.kinds.has('ClusterSPIFFEID') ? view.spiffeIds().filter(this.#scope.cares) : []
  }

  #declareStatic (view: ClusterView) {
    const declarations: Declaration[] = []
    const failures = new Map<string, string>()
    if (!this.#scope.kinds.has('ClusterStaticEntry')) return { declarations, failures }
    for (const by of view.staticEntries().filter(this.#scope.cares)) {
      try {
        if ('error' in by.spec) throw by.spec.error
        declarations.push({ by, entry: renderStaticEntry(by.spec.value, this.#scope.naming.trustDomain) })
      } catch (error) {
        if (!(error instanceof SpiffeError)) throw error
        failures.set(by.uid, error.message)
      }
    }
    return { declarations, failures }
  }

  #set (pod: PodFacts, view: ClusterView, resources: readonly ClusterSpiffeId[]): PodOutcome {
    const outcome = declarePod(pod, {
      namespace: view.namespace(pod.namespace),
      node: pod.nodeName === undefined ? undefined : view.node(pod.nodeName),
      services: view.services(pod),
      resources,
      naming: this.#scope.naming,
      ignores: this.#scope.ignores
    })
    this.#outcomes.set(pod.uid, outcome)
    for (const declaration of outcome.declarations) this.#add(declaration)
    return outcome
  }

  #add (declaration: Declaration): void {
    const { id: key } = declaration.entry
    this.#declared.set(key, [...this.#declared.get(key) ?? [], declaration].toSorted((a, b) => byPreference(a.by, b.by)))
  }

  #remove (declaration: Declaration): string {
    const { id: key } = declaration.entry
    const left = this.of(key).filter(other => other !== declaration)
    if (left.length > 0) this.#declared.set(key, left)
    else this.#declared.delete(key)
    return key
  }
}
