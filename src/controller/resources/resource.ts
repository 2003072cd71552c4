import { z } from 'zod'
import { parseDuration } from '../../runtime/duration.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import type { KubeObject } from '../kubernetes/kube-object.ts'

export type ResourceKind = 'ClusterSPIFFEID' | 'ClusterStaticEntry' | 'ClusterFederatedTrustDomain'

/** Group and version of all resources that a controller reads. */
export const apiVersion = 'spire.spiffe.io/v1alpha1'

/** The list of each kind. */
export const resourcePaths: Readonly<Record<ResourceKind, string>> = {
  ClusterSPIFFEID: `/apis/${apiVersion}/clusterspiffeids`,
  ClusterStaticEntry: `/apis/${apiVersion}/clusterstaticentries`,
  ClusterFederatedTrustDomain: `/apis/${apiVersion}/clusterfederatedtrustdomains`
}

/** A resource as it was read: its spec in our terms, or what is wrong with it. */
export interface Resource<Spec> {
  readonly kind: ResourceKind
  readonly name: string
  readonly uid: string
  readonly generation: number
  /** Unix milliseconds, of whole seconds. */
  readonly createdMs: number
  readonly deletedMs: number | undefined
  readonly className: string
  readonly spec: { readonly value: Spec } | { readonly error: SpiffeError }
  /** As it is stored, ours or another controller's. */
  readonly status: Readonly<Record<string, unknown>>
}

export function resourceOf<Spec> (
  kind: ResourceKind, { metadata, spec, status }: KubeObject, read: (raw: unknown) => Spec
): Resource<Spec> {
  return {
    kind,
    name: metadata.name,
    uid: metadata.uid,
    generation: metadata.generation ?? 0,
    createdMs: Date.parse(metadata.creationTimestamp ?? '') || 0,
    deletedMs: metadata.deletionTimestamp === undefined ? undefined : Date.parse(metadata.deletionTimestamp),
    className: typeof spec?.['className'] === 'string' ? spec['className'] : '',
    spec: attempt(() => read(spec)),
    status: status ?? {}
  }
}

function attempt<Spec> (read: () => Spec): Resource<Spec>['spec'] {
  try {
    return { value: read() }
  } catch (error) {
    if (error instanceof SpiffeError) return { error }
    throw error
  }
}

/** Which of two that declare the same counts: the older, then the one that stays, then the lower UID (spire-surface §8.2). */
export function byPreference (a: Resource<unknown>, b: Resource<unknown>): number {
  return a.createdMs - b.createdMs ||
    (b.deletedMs ?? Infinity) - (a.deletedMs ?? Infinity) || // Infinity less itself is NaN, which is as good as 0 here.
    (a.uid < b.uid ? -1 : a.uid > b.uid ? 1 : 0)
}

export function specMalformed (field: string, rule: string, cause?: unknown): SpiffeError {
  return new SpiffeError('resource_malformed', `spec${field === '' ? '' : `.${field}`}: ${rule}`, { cause })
}

/** @throws {SpiffeError} `resource_malformed`, naming the first field at fault */
export function readSpec<Schema extends z.ZodType> (schema: Schema, raw: unknown): z.output<Schema> {
  const { data, error } = schema.safeParse(raw)
  if (error === undefined) return data
  const [issue] = error.issues
  throw specMalformed(issue?.path.join('.') ?? '', lowerFirst(issue?.message ?? 'is unusable'))
}

/** Runs one check of a field. @throws {SpiffeError} `resource_malformed` */
export function field<T> (name: string, read: () => T): T {
  try {
    return read()
  } catch (error) {
    if (error instanceof SpiffeError) throw specMalformed(name, error.message, error)
    throw error
  }
}

/** `metav1.Duration`; whole seconds, of which 0 stands for the server's own. */
export const ttlSeconds = z.string().nullish().transform((text, context) => {
  const ms = text === undefined || text === null || text === '' ? 0 : parseDuration(text)
  if (ms !== undefined && ms >= 0 && ms / 1_000 < 2 ** 31) return Math.floor(ms / 1_000)
  context.addIssue('must be a duration such as 90s, 15m or 1h30m')
  return z.NEVER
})

export const optionalText = z.string().nullish().transform(text => text ?? '')
export const optionalFlag = z.boolean().nullish().transform(flag => flag ?? false)
export const optionalTexts = z.array(z.string()).nullish().transform(texts => texts ?? [])

function lowerFirst (text: string): string { return text.charAt(0).toLowerCase() + text.slice(1) }
