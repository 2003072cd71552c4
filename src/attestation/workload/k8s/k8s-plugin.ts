import { z } from 'zod'
import { orEnvironment } from '../../../plugins/from-environment.ts'
import type { Plugin } from '../../../plugins/plugin.ts'
import type { Clock } from '../../../runtime/clock.ts'
import { durationSeconds, parsedBy } from '../../../runtime/config-schema.ts'
import type { Logger } from '../../../runtime/logger.ts'
import { parseSpiffeId } from '../../../spiffe/spiffe-id.ts'
import { ApiServer } from '../../kubernetes/api-server.ts'
import type { WorkloadAttestor } from '../workload-attestor.ts'
import { type BrokerAccessConfig, createPodAccess } from './access-review.ts'
import { createK8sAttestor } from './k8s-attestor.ts'
import { Kubelet, type KubeletConfig, type KubeletProof } from './kubelet.ts'
import { KubeletPods } from './kubelet-pods.ts'

export interface K8sConfig {
  /** `nodeName` is settled at the start, from the environment. */
  readonly kubelet: Omit<KubeletConfig, 'nodeName'>
  readonly nodeName: string | undefined
  readonly nodeNameVariable: string
  readonly maxPollAttempts: number
  readonly pollIntervalMs: number
  readonly podOnly: boolean
  readonly logPlaces: boolean
  /** Without it whoever may name pods by `agent.experimental.broker` may name all of this node's. */
  readonly brokerAccess: BrokerAccessConfig | undefined
}

type Host = { readonly clock: Clock, readonly log: Logger }

const mounted = '/var/run/secrets/kubernetes.io/serviceaccount'
/** As SPIRE has it, empty is as good as absent. */
const path = z.string().optional().transform(value => value === '' ? undefined : value)
const port = z.int().min(1, 'must be 1 to 65535').max(65_535, 'must be 1 to 65535').optional()

/** Keys of SPIRE's that say something which is not offered here. */
const notOffered = {
  sigstore: 'is not offered yet: signatures of images are not looked at, so no entry may rely on k8s:image-signature selectors',
  disable_kubelet_client: 'is not offered: pods are known by the kubelet alone',
  enable_namespace_labels: 'is not offered: the agent asks the kubelet alone, which knows no namespaces'
}

const ofNode = z.literal('agent_node', 'must be agent_node: pods of other nodes are not looked for')

const brokerSchema = z.strictObject({
  access_policy: z.enum(['enforced', 'permissive'], 'must be enforced or permissive'),
  brokers: z.array(z.strictObject({ id: parsedBy(parseSpiffeId), pod_reference_scope: ofNode.optional() }))
    .min(1, 'must name at least one broker')
    .refine(brokers => new Set(brokers.map(({ id }) => id)).size === brokers.length, 'must not name a broker twice'),
  /** Ours alone. */
  kube_config_file: path
}).transform(({ access_policy: accessPolicy, brokers, kube_config_file: kubeconfig }): BrokerAccessConfig => ({
  accessPolicy, brokers: new Set(brokers.map(({ id }) => id)), kubeconfig
}))

/** SPIRE's keys. */
const configSchema = z.strictObject({
  kubelet_secure_port: port,
  kubelet_read_only_port: port,
  kubelet_ca_path: path,
  skip_kubelet_verification: z.boolean().default(false),
  token_path: path,
  certificate_path: path,
  private_key_path: path,
  use_anonymous_authentication: z.boolean().default(false),
  node_name: path,
  node_name_env: path,
  max_poll_attempts: z.int().min(1, 'must be 1 to 1000').max(1_000, 'must be 1 to 1000').default(60),
  poll_retry_interval: durationSeconds(10).default(0.5),
  reload_interval: durationSeconds(1_000).default(60),
  disable_container_selectors: z.boolean().default(false),
  use_new_container_locator: z.literal(true, 'must be true: the legacy container locator is not offered').optional(),
  verbose_container_locator_logs: z.boolean().default(false),
  experimental: z.strictObject({ broker: brokerSchema.optional() }).nullish()
}).check(({ value, issues }) => {
  const refuse = (key: string, message: string) => issues.push({ code: 'custom', path: [key], message, input: undefined })
  if (value.kubelet_read_only_port !== undefined) {
    const secured = [
      'kubelet_secure_port', 'kubelet_ca_path', 'token_path', 'certificate_path', 'private_key_path'
    ] as const
    for (const key of secured) if (value[key] !== undefined) refuse(key, 'is set beside kubelet_read_only_port, which is not secured')
  }
  if ((value.certificate_path === undefined) !== (value.private_key_path === undefined)) {
    const missing = value.certificate_path === undefined ? 'certificate_path' : 'private_key_path'
    refuse(missing, 'is required: certificate_path and private_key_path belong together')
  }
  const shown = [value.token_path, value.certificate_path].filter(shown => shown !== undefined).length
  if (shown > 1) refuse('token_path', 'is set beside certificate_path; keep one of them')
  if (shown > 0 && value.use_anonymous_authentication) {
    refuse('use_anonymous_authentication', 'must not be true where a token or a certificate is named')
  }
  if (value.skip_kubelet_verification && value.kubelet_ca_path !== undefined) {
    refuse('skip_kubelet_verification', 'must not be true where kubelet_ca_path is set')
  }
}).transform((value): K8sConfig => ({
  kubelet: {
    port: value.kubelet_read_only_port ?? value.kubelet_secure_port ?? 10_250,
    secure: value.kubelet_read_only_port === undefined,
    caPath: value.skip_kubelet_verification ? undefined : value.kubelet_ca_path ?? `${mounted}/ca.crt`,
    proof: proofOf(value),
    reloadIntervalMs: value.reload_interval * 1_000
  },
  nodeName: value.node_name,
  nodeNameVariable: value.node_name_env ?? 'MY_NODE_NAME',
  maxPollAttempts: value.max_poll_attempts,
  pollIntervalMs: value.poll_retry_interval * 1_000,
  podOnly: value.disable_container_selectors,
  logPlaces: value.verbose_container_locator_logs,
  brokerAccess: value.experimental?.broker
}))

interface Shown { token_path?: string | undefined, certificate_path?: string | undefined, private_key_path?: string | undefined }

function proofOf (shown: Shown & { use_anonymous_authentication: boolean }): KubeletProof {
  const { token_path: tokenPath, certificate_path: certificatePath, private_key_path: keyPath } = shown
  if (shown.use_anonymous_authentication) return { kind: 'none' }
  if (certificatePath !== undefined && keyPath !== undefined) return { kind: 'certificate', certificatePath, keyPath }
  return { kind: 'token', path: tokenPath ?? `${mounted}/token` }
}

function withoutNotOffered (raw: unknown, context: z.RefinementCtx): unknown {
  if (typeof raw !== 'object' || raw === null || Array.isArray(raw)) return raw
  return Object.fromEntries(Object.entries(raw).filter(([key, value]) => {
    if (!Object.hasOwn(notOffered, key)) return true
    // Said to be off, as templates of charts do.
    const message = notOffered[key as keyof typeof notOffered]
    if (value !== false && value !== null) context.addIssue({ code: 'custom', path: [key], message })
    return false
  }))
}

export const k8sPlugin: Plugin<WorkloadAttestor & AsyncDisposable, K8sConfig, Host> = {
  name: 'k8s',
  config: z.preprocess(withoutNotOffered, configSchema),
  async start (config, { clock, log }) {
    await using scope = new AsyncDisposableStack()
    const nodeName = orEnvironment(config.nodeName, config.nodeNameVariable)
    if (config.kubelet.secure && config.kubelet.caPath === undefined) {
      log.warn('skip_kubelet_verification: whoever answers at the kubelet\'s port decides which pods workloads are in')
    }
    const kubelet = scope.use(new Kubelet({ ...config.kubelet, nodeName }, clock))
    const pods = scope.use(new KubeletPods({ fetch: signal => kubelet.pods(signal), intervalMs: config.pollIntervalMs, clock }))
    const attestor = createK8sAttestor({ ...config, pods, clock, log })
    const { brokerAccess } = config
    const access = brokerAccess === undefined ? {} : {
      access: createPodAccess(brokerAccess, scope.use(ApiServer.of(brokerAccess.kubeconfig)))
    }
    const open = scope.move()
    return { ...attestor, ...access, [Symbol.asyncDispose]: () => open.disposeAsync() }
  }
}
