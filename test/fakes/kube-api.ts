import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { inNamespace } from '../../src/runtime/network-namespace.ts'
import { createWebCa } from '../federation/web-ca.ts'

interface AccessSpec {
  readonly user: string
  readonly resourceAttributes: { readonly verb: string, readonly resource: string, readonly namespace: string, readonly name: string }
}

export interface LabelledObject {
  readonly metadata: { readonly name: string, readonly labels: Readonly<Record<string, string>> }
  readonly webhooks?: { name: string, clientConfig: { caBundle?: string } }[]
  readonly spec?: { caBundle?: string }
}

interface Token { readonly audience: string, readonly account: string, readonly pod: FakePod | undefined }

export interface FakePod {
  readonly uid: string
  readonly namespace: string
  readonly name: string
  readonly node: string
  readonly account: string
  readonly labels: Readonly<Record<string, string>>
}

/**
 * An API server over HTTPS as far as node attestation sees one: TokenReview with audiences and with tokens that are bound to pods, pods and
 * nodes; answers in the words of a real one, which test/kubernetes/kube-apiserver.soak.ts holds it against.
 */
export class KubeApi implements AsyncDisposable {
  /** Path of a kubeconfig whose user may ask. */
  readonly kubeconfig: string
  /** `METHOD /path` of each call. */
  readonly calls: string[] = []
  /** What TokenReview answers, instead. */
  review: object | undefined
  /** What SubjectAccessReview lets, as `user verb resource namespace/name`; all that were asked are in `reviews`. */
  readonly allowed = new Set<string>()
  readonly reviews: object[] = []
  /** Whether it answers that it cannot. */
  fails = false
  readonly nodes = new Map<string, { readonly uid: string, readonly labels: Readonly<Record<string, string>> }>()
  /** `namespace/name` → data; only what is here already may be written. */
  readonly configMaps = new Map<string, Record<string, string>>()
  /** Webhook configurations and API services, by path. */
  readonly labelled = new Map<string, LabelledObject>()
  /** Labels by name. */
  readonly namespaces = new Map<string, Readonly<Record<string, string>>>()
  /** What it answers to whoever may ask, before all that it knows itself. */
  besides: ((method: string, path: string, body: string) => [number, object] | undefined) | undefined
  /** Whether it says nothing of namespaces. */
  failing = false
  readonly #pods = new Map<string, FakePod>()
  readonly #tokens = new Map<string, Token>()
  readonly #right = randomUUID()
  readonly #server: ReturnType<typeof createServer>

  private constructor (folder: string, { cert, key }: { readonly cert: string, readonly key: string }) {
    this.kubeconfig = join(folder, 'kubeconfig')
    this.#server = createServer({ cert, key }, (request, response) => {
      let body = ''
      request.setEncoding('utf8').on('data', (text: string) => { body += text }).on('end', () => {
        const [status, answer] = this.#answer(request.method ?? '', request.url ?? '', request.headers.authorization, body)
        response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(answer))
      })
    })
  }

  /** @param netns path of a network namespace to listen in; this one unless given */
  static async start (folder: string, netns?: string): Promise<KubeApi> {
    const ca = await createWebCa()
    const api = new KubeApi(folder, await ca.certify())
    if (netns === undefined) api.#server.listen(0, '127.0.0.1')
    // Without an address it is bound at once.
    else inNamespace(netns, () => api.#server.listen(0))
    await once(api.#server, 'listening')
    const { port } = api.#server.address() as AddressInfo
    await writeFile(join(folder, 'ca.crt'), ca.root)
    await writeFile(join(folder, 'right'), `${api.#right}\n`)
    await writeFile(api.kubeconfig, JSON.stringify({
      apiVersion: 'v1', kind: 'Config', 'current-context': 'c',
      contexts: [{ name: 'c', context: { cluster: 'k', user: 'u' } }],
      clusters: [{ name: 'k', cluster: { server: `https://127.0.0.1:${port}`, 'certificate-authority': 'ca.crt' } }],
      users: [{ name: 'u', user: { tokenFile: 'right' } }]
    }))
    return api
  }

  addNode (name: string, labels: Readonly<Record<string, string>> = {}): string {
    const uid = randomUUID()
    this.nodes.set(name, { uid, labels })
    return uid
  }

  addPod (pod: Partial<FakePod> & Pick<FakePod, 'name' | 'node'>): FakePod {
    const made = { uid: randomUUID(), namespace: 'spire', account: 'spire-agent', labels: {}, ...pod }
    this.#pods.set(`${made.namespace}/${made.name}`, made)
    return made
  }

  deletePod ({ namespace, name }: FakePod): void { this.#pods.delete(`${namespace}/${name}`) }

  tokenOf (pod: FakePod, audience = 'spire-server'): string {
    return this.#issue({ audience, account: `${pod.namespace}:${pod.account}`, pod })
  }

  /** Bound to nothing. */
  tokenWithoutPod (account: string, audience = 'spire-server'): string { return this.#issue({ audience, account, pod: undefined }) }

  async [Symbol.asyncDispose] (): Promise<void> {
    this.#server.closeAllConnections()
    this.#server.close()
    await once(this.#server, 'close')
  }

  #issue (token: Token): string {
    const text = `token-${randomUUID()}`
    this.#tokens.set(text, token)
    return text
  }

  #answer (method: string, path: string, right: string | undefined, body: string): [number, object] {
    this.calls.push(`${method} ${path}`)
    if (this.fails) return refuse(503, 'etcd is away')
    if (right !== `Bearer ${this.#right}`) return refuse(401, 'Unauthorized')
    const other = this.besides?.(method, path, body)
    if (other !== undefined) return other
    if (method === 'POST' && path === '/apis/authentication.k8s.io/v1/tokenreviews') {
      const { spec } = JSON.parse(body) as { spec: { token: string, audiences: string[] } }
      return [201, { kind: 'TokenReview', apiVersion: 'authentication.k8s.io/v1', spec, status: this.review ?? this.#reviewed(spec) }]
    }
    if (method === 'POST' && path === '/apis/authorization.k8s.io/v1/subjectaccessreviews') {
      const { spec } = JSON.parse(body) as { spec: AccessSpec }
      this.reviews.push(spec)
      const { verb, resource, namespace, name } = spec.resourceAttributes
      const allowed = this.allowed.has(`${spec.user} ${verb} ${resource} ${namespace}/${name}`)
      return [201, { kind: 'SubjectAccessReview', apiVersion: 'authorization.k8s.io/v1', spec, status: { allowed } }]
    }
    const [, namespace, name] = /^\/api\/v1\/namespaces\/([^/]+)\/pods\/([^/]+)$/.exec(path) ?? []
    const pod = this.#pods.get(`${namespace}/${name}`)
    if (pod !== undefined) {
      const { uid, labels, node, account } = pod
      return [200, {
        kind: 'Pod', apiVersion: 'v1', metadata: { name, namespace, uid, labels },
        spec: { nodeName: node, serviceAccountName: account }, status: { phase: 'Running', hostIP: '192.0.2.7' }
      }]
    }
    if (path.startsWith('/apis/admissionregistration.k8s.io/v1/') || path.startsWith('/apis/apiregistration.k8s.io/v1/')) {
      return method === 'PATCH' ? this.#patched(path, body) : this.#listed(path)
    }
    const asked = /^\/api\/v1\/namespaces\/([^/]+\/configmaps\/[^/?]+)$/.exec(path)?.[1]?.replace('/configmaps/', '/')
    if (method === 'GET' && asked !== undefined && this.configMaps.has(asked)) {
      return [200, { kind: 'ConfigMap', apiVersion: 'v1', data: this.configMaps.get(asked) }]
    }
    const [, configMap, query] = /^\/api\/v1\/namespaces\/([^/]+\/configmaps\/[^/?]+)\?(.*)$/.exec(path) ?? []
    if (method === 'PATCH' && configMap !== undefined) return this.#applied(configMap.replace('/configmaps/', '/'), query ?? '', body)
    const named = /^\/api\/v1\/namespaces\/([^/]+)$/.exec(path)?.[1] ?? ''
    const ofNamespace = this.namespaces.get(named)
    if (ofNamespace !== undefined) {
      if (this.failing) return refuse(503, 'the server is currently unable to handle the request')
      return [200, { kind: 'Namespace', apiVersion: 'v1', metadata: { name: named, uid: randomUUID(), labels: ofNamespace } }]
    }
    const nodeName = /^\/api\/v1\/nodes\/([^/]+)$/.exec(path)?.[1] ?? ''
    const node = this.nodes.get(nodeName)
    if (node !== undefined) return [200, { kind: 'Node', apiVersion: 'v1', metadata: { name: nodeName, ...node } }]
    return refuse(404, 'not found')
  }

  #applied (name: string, query: string, body: string): [number, object] {
    const data = this.configMaps.get(name)
    if (data === undefined) return refuse(403, 'cannot create resource "configmaps"')
    const { fieldManager, force } = Object.fromEntries(new URLSearchParams(query))
    if (!fieldManager || force !== 'true') return refuse(409, 'conflict')
    Object.assign(data, (JSON.parse(body) as { data: object }).data)
    return [200, { kind: 'ConfigMap', apiVersion: 'v1', data }]
  }

  #listed (path: string): [number, object] {
    const [kind, query] = path.split('?') as [string, string]
    const [label, value] = (new URLSearchParams(query).get('labelSelector') ?? '').split('=') as [string, string]
    const items = [...this.labelled].filter(([at, { metadata }]) => at.startsWith(`${kind}/`) && metadata.labels[label] === value)
    return [200, { kind: 'List', metadata: { resourceVersion: '1' }, items: items.map(([, object]) => object) }]
  }

  /** JSON Patch of members that are there, all or nothing. */
  #patched (path: string, body: string): [number, object] {
    const object = this.labelled.get(path)
    if (object === undefined) return refuse(404, 'not found')
    const patch = JSON.parse(body) as { op: string, path: string, value: unknown }[]
    const places = patch.map(({ path }) => {
      const parts = path.split('/').slice(1)
      const holder = parts.slice(0, -1).reduce<unknown>((at, part) => (at as Record<string, unknown> | undefined)?.[part], object)
      return { holder, last: parts.at(-1) as string }
    })
    const isFitting = patch.every(({ op, value }, index) => {
      const { holder, last } = places[index] as { holder: Record<string, unknown> | undefined, last: string }
      return holder !== undefined && (op === 'add' || holder[last] === value)
    })
    if (!isFitting) return refuse(422, 'the server rejected our request due to an error in our request')
    for (const [index, { op, value }] of patch.entries()) {
      const { holder, last } = places[index] as { holder: Record<string, unknown>, last: string }
      if (op === 'add') holder[last] = value
    }
    return [200, object]
  }

  #reviewed ({ token, audiences }: { token: string, audiences: string[] }): object {
    const known = this.#tokens.get(token)
    if (known === undefined) return { user: {}, error: '[invalid bearer token, token lookup failed]' }
    const { audience, account, pod } = known
    if (!audiences.includes(audience)) {
      const why = `token audiences ["${audience}"] is invalid for the target audiences ["${audiences.join('" "')}"]`
      return { user: {}, error: `[invalid bearer token, ${why}]` }
    }
    if (pod !== undefined && this.#pods.get(`${pod.namespace}/${pod.name}`)?.uid !== pod.uid) {
      return { user: {}, error: '[invalid bearer token, service account token has been invalidated]' }
    }
    const key = (name: string) => `authentication.kubernetes.io/${name}`
    return {
      authenticated: true,
      audiences: [audience],
      user: {
        username: `system:serviceaccount:${account}`, uid: randomUUID(), groups: ['system:serviceaccounts', 'system:authenticated'],
        extra: {
          [key('credential-id')]: [`JTI=${randomUUID()}`],
          ...pod === undefined ? {} : { [key('node-name')]: [pod.node], [key('pod-name')]: [pod.name], [key('pod-uid')]: [pod.uid] }
        }
      }
    }
  }
}

function refuse (code: number, message: string): [number, object] {
  return [code, { kind: 'Status', apiVersion: 'v1', status: 'Failure', message, code }]
}
