import { z } from 'zod'
import { longestValue } from '../policy/match-text.ts'

/** Istio's `AuthorizationPolicy` as it is written. What is not known, or known and not for us, is refused by name. */

export const group = 'security.istio.io'

/** Of one list. */
const most = 1_000

const text = z.string().min(1, 'must not be empty').max(longestValue, `must not be longer than ${longestValue} characters`)

function list<T extends z.ZodType> (member: T) { return z.array(member).max(most, `must not have more than ${most} members`) }

/** An empty one says no more than one that is absent. */
const texts = list(text).optional().transform(values => values?.length === 0 ? undefined : values)

/** Istio refuses it: whether it means all or none, nobody could tell. */
function notEmptyList<T extends z.ZodType> (member: T) { return list(member).min(1, 'must not be empty: leave it away, or name something') }

function refused (why: string) { return z.unknown().optional().refine(value => value === undefined, why) }

const labelName = '[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?'
const labels = z.record(
  z.string().regex(new RegExp(`^([a-z0-9.-]{1,253}/)?${labelName}$`), 'must have names of Kubernetes labels'),
  z.string().regex(new RegExp(`^(${labelName})?$`), 'must be the value of a Kubernetes label: no star stands for others')
)

const dryRun: Readonly<Record<string, boolean>> = {
  1: true, t: true, T: true, TRUE: true, true: true, True: true, 0: false, f: false, F: false, FALSE: false, false: false, False: false
}

const annotations = z.record(z.string(), z.string()).transform((all, context) => {
  const value = all['istio.io/dry-run']
  if (value !== undefined && !Object.hasOwn(dryRun, value)) {
    context.addIssue({ code: 'custom', path: ['istio.io/dry-run'], message: 'must be "true" or "false"' })
    return z.NEVER
  }
  return { isDryRun: value !== undefined && dryRun[value] === true }
})

const dnsLabel = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/

const namespace = z.string().regex(dnsLabel, 'must be the name of a namespace')

const metadata = z.strictObject({
  name: z.string().max(253).regex(/^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$/, 'must be the name of a Kubernetes object'),
  /** Required, since it says which workloads the policy is about. */
  namespace,
  labels: z.record(z.string(), z.string()).refine(all => all['istio.io/rev'] === undefined,
    'istio.io/rev is for one revision of istiod alone, of which there is none here: take it away').optional(),
  annotations: annotations.optional(),
  uid: z.unknown().optional(),
  resourceVersion: z.unknown().optional(),
  creationTimestamp: z.unknown().optional(),
  generation: z.unknown().optional(),
  managedFields: z.unknown().optional(),
  ownerReferences: z.unknown().optional(),
  finalizers: z.unknown().optional(),
  selfLink: z.unknown().optional()
})

const source = z.strictObject({
  principals: texts,
  notPrincipals: texts,
  requestPrincipals: texts,
  notRequestPrincipals: texts,
  namespaces: texts,
  notNamespaces: texts,
  serviceAccounts: texts,
  notServiceAccounts: texts,
  ipBlocks: texts,
  notIpBlocks: texts,
  remoteIpBlocks: texts,
  notRemoteIpBlocks: texts
}).refine(saysSomething, 'must not be empty')

const operation = z.strictObject({
  hosts: texts,
  notHosts: texts,
  ports: texts,
  notPorts: texts,
  methods: texts,
  notMethods: texts,
  paths: texts,
  notPaths: texts
}).refine(saysSomething, 'must not be empty')

const condition = z.strictObject({ key: text, values: texts, notValues: texts })
  .refine(({ values, notValues }) => values !== undefined || notValues !== undefined, 'must have values or notValues')

const rule = z.strictObject({
  from: notEmptyList(z.strictObject({ source })).optional(),
  to: notEmptyList(z.strictObject({ operation })).optional(),
  when: list(condition).optional()
})

const noWorkload = 'names a gateway, a waypoint or a service, which are no workloads here: say the namespace, and labels in selector'

const spec = z.strictObject({
  selector: z.strictObject({ matchLabels: labels.optional() }).optional(),
  targetRef: refused(noWorkload),
  targetRefs: refused(noWorkload),
  action: z.enum(['ALLOW', 'DENY', 'AUDIT', 'CUSTOM']).default('ALLOW'),
  provider: z.strictObject({ name: text }).optional(),
  rules: list(rule).optional()
}).superRefine(({ action, provider }, context) => {
  if (action === 'CUSTOM' && provider === undefined) {
    context.addIssue({ code: 'custom', path: ['provider', 'name'], message: 'is required: CUSTOM asks somebody' })
  }
  if (action !== 'CUSTOM' && provider !== undefined) {
    context.addIssue({ code: 'custom', path: ['provider'], message: 'is for the action CUSTOM alone' })
  }
})

export const authorizationPolicy = z.strictObject({
  apiVersion: z.enum([`${group}/v1`, `${group}/v1beta1`]),
  kind: z.literal('AuthorizationPolicy'),
  metadata,
  spec: spec.default({ action: 'ALLOW' }),
  status: z.unknown().optional()
})

export type AuthorizationPolicy = z.output<typeof authorizationPolicy>
export type IstioRule = z.output<typeof rule>
export type IstioSource = z.output<typeof source>
export type IstioOperation = z.output<typeof operation>
export type IstioCondition = z.output<typeof condition>

function saysSomething (value: object): boolean { return Object.values(value).some(member => member !== undefined) }
