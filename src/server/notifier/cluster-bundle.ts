import type { ApiServer, JsonPatch } from '../../attestation/kubernetes/api-server.ts'
import type { Bundle } from '../../spiffe/bundle.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import { isJsonObject, type JsonObject, type JsonValue } from '../../spiffe/strict-json.ts'
import { encodePem } from '../../x509/pem.ts'

export interface ClusterBundleConfig {
  /** Path; the cluster that this process runs in unless given. */
  readonly kubeconfig: string | undefined
  readonly namespace: string
  readonly configMap: string
  readonly configMapKey: string
  /** Keys of labels whose value is `true`. */
  readonly webhookLabel: string | undefined
  readonly apiServiceLabel: string | undefined
}

const fieldManager = 'assay-server'
const admission = '/apis/admissionregistration.k8s.io/v1'
const aggregation = '/apis/apiregistration.k8s.io/v1'

/** One cluster that trusts what the trust domain's servers sign. */
export class ClusterBundle {
  readonly #config: ClusterBundleConfig
  readonly #api: ApiServer

  constructor (config: ClusterBundleConfig, api: ApiServer) {
    this.#config = config
    this.#api = api
  }

  /**
   * Writes the bundle to the ConfigMap and to each object with a label that does not have it. One that fails holds up no other.
   * @throws {SpiffeError} `kubernetes_unreachable`, with all that failed
   */
  async write ({ x509Authorities }: Bundle, signal: AbortSignal): Promise<void> {
    const { webhookLabel, apiServiceLabel } = this.#config
    const pem = x509Authorities.map(({ certificate }) => encodePem('CERTIFICATE', certificate)).join('')
    const caBundle = Buffer.from(pem).toString('base64')
    const kinds = [
      ...webhookLabel === undefined ? [] : ['mutatingwebhookconfigurations', 'validatingwebhookconfigurations'].map(kind =>
        ({ path: `${admission}/${kind}`, label: webhookLabel, patchOf: (item: JsonObject) => webhookPatch(item, caBundle) })),
      ...apiServiceLabel === undefined ? [] : [
        { path: `${aggregation}/apiservices`, label: apiServiceLabel, patchOf: (item: JsonObject) => apiServicePatch(item, caBundle) }
      ]
    ]
    const outcomes = await Promise.allSettled([
      this.#writeConfigMap(pem, signal),
      ...kinds.map(async ({ path, label, patchOf }) => {
        const list = await this.#api.get(`${path}?labelSelector=${encodeURIComponent(`${label}=true`)}`, signal)
        const patched = await Promise.allSettled(itemsOf(list).map(async item => {
          const patch = patchOf(item)
          if (patch.length > 0) await this.#api.patch(`${path}/${encodeURIComponent(nameOf(item))}`, patch, signal)
        }))
        throwAll(patched)
      })
    ])
    signal.throwIfAborted()
    throwAll(outcomes)
  }

  async #writeConfigMap (pem: string, signal: AbortSignal): Promise<void> {
    const { namespace, configMap: name, configMapKey: key } = this.#config
    const path = `/api/v1/namespaces/${namespace}/configmaps/${name}`
    const data = (await this.#api.get(path, signal))?.['data']
    if (isJsonObject(data) && data[key] === pem) return
    await this.#api.apply(path, { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name, namespace }, data: { [key]: pem } },
      { fieldManager }, signal)
  }
}

/** Of the webhooks that do not have it; each is tested for its name, as somebody may take one away meanwhile. */
function webhookPatch ({ webhooks }: JsonObject, caBundle: string): JsonPatch {
  if (!Array.isArray(webhooks)) return []
  return (webhooks as readonly JsonValue[]).flatMap((webhook, index) => {
    const client = isJsonObject(webhook) ? webhook['clientConfig'] : undefined
    if (!isJsonObject(webhook) || !isJsonObject(client) || client['caBundle'] === caBundle) return []
    return [
      { op: 'test', path: `/webhooks/${index}/name`, value: webhook['name'] ?? null } as const,
      { op: 'add', path: `/webhooks/${index}/clientConfig/caBundle`, value: caBundle } as const
    ]
  })
}

function apiServicePatch ({ spec }: JsonObject, caBundle: string): JsonPatch {
  if (!isJsonObject(spec) || spec['caBundle'] === caBundle) return []
  return [{ op: 'add', path: '/spec/caBundle', value: caBundle }]
}

function itemsOf (list: JsonObject | undefined): readonly JsonObject[] {
  const items = list?.['items'] ?? []
  return Array.isArray(items) ? (items as readonly JsonValue[]).filter(isJsonObject) : []
}

function nameOf ({ metadata }: JsonObject): string {
  const name = isJsonObject(metadata) ? metadata['name'] : undefined
  if (typeof name !== 'string') throw new SpiffeError('kubernetes_unreachable', 'the Kubernetes API server lists an object without a name')
  return name
}

function throwAll (outcomes: readonly PromiseSettledResult<unknown>[]): void {
  const reasons = outcomes.flatMap(outcome => outcome.status === 'rejected' ? [outcome.reason as unknown] : [])
  const bug = reasons.find(reason => !(reason instanceof SpiffeError))
  if (bug !== undefined) throw bug
  const [first, ...others] = reasons as SpiffeError[]
  if (first === undefined) return
  if (others.length === 0) throw first
  throw new SpiffeError(first.code, [...new Set([first, ...others].map(({ message }) => message))].join('; '), { cause: first })
}
