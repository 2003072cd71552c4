import { spawn, type ChildProcess } from 'node:child_process'
import { generateKeyPairSync, randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { existsSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { importPKCS8, SignJWT } from 'jose'
import { Agent, request } from 'undici'
import { eventually } from '../fakes/eventually.ts'
import { freePort } from '../fakes/free-port.ts'
import { kubeApiserver } from './build-kube-apiserver.ts'

export interface TokenOrder {
  readonly account: string
  readonly audience?: string
  /** None: bound to nothing. */
  readonly pod?: string
}

const namespace = 'spire'
const issuer = 'https://kubernetes.default.svc'
/** On a busy machine, from nothing. */
const startMs = 180_000

/** A real API server on a real etcd, without anything that runs pods: a pod is what the API says. */
export class RealCluster implements AsyncDisposable {
  /** Of a user who may nothing unless it is told. */
  readonly kubeconfig: string
  /** Of a user who may everything. */
  readonly adminKubeconfig: string
  readonly #folder: string
  readonly #url: string
  readonly #admin = randomUUID()
  readonly #children: ChildProcess[] = []
  readonly #key = generateKeyPairSync('rsa', { modulusLength: 2048 })
  #dispatcher: Agent | undefined
  #apiServer: { readonly program: string, readonly words: readonly string[], readonly child: ChildProcess } | undefined

  private constructor (folder: string, port: number) {
    this.#folder = folder
    this.#url = `https://127.0.0.1:${port}`
    this.kubeconfig = join(folder, 'server.kubeconfig')
    this.adminKubeconfig = join(folder, 'admin.kubeconfig')
  }

  static async start (): Promise<RealCluster> {
    const program = await kubeApiserver()
    const cluster = new RealCluster(mkdtempSync(join(tmpdir(), 'assay-cluster-')), await freePort())
    try {
      await cluster.#run(program)
      return cluster
    } catch (error) {
      console.error(readFileSync(join(cluster.#folder, 'kube-apiserver.log'), 'utf8').slice(-4_000))
      await cluster[Symbol.asyncDispose]()
      throw error
    }
  }

  async ask (
    method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE', path: string, body?: object, accept = 'application/json'
  ): Promise<Readonly<Record<string, unknown>>> {
    const response = await request(this.#url + path, {
      method,
      dispatcher: this.#dispatcher as Agent,
      headers: {
        accept,
        authorization: `Bearer ${this.#admin}`,
        // Server-side apply, whose YAML may be JSON.
        'content-type': method === 'PATCH' ? 'application/apply-patch+yaml' : 'application/json'
      },
      ...body === undefined ? {} : { body: JSON.stringify(body) }
    })
    const text = await response.body.text()
    if (response.statusCode >= 300) throw new Error(`${method} ${path}: ${response.statusCode} ${text}`)
    return JSON.parse(text) as Record<string, unknown>
  }

  /** A list as `kubectl get` prints it, a line per object. */
  async table (path: string): Promise<string> {
    const { columnDefinitions, rows } = await this.ask('GET', path, undefined, 'application/json;as=Table;g=meta.k8s.io;v=v1') as {
      columnDefinitions: Array<{ name: string }>, rows: Array<{ cells: unknown[] }>
    }
    return [columnDefinitions.map(({ name }) => name), ...rows.map(({ cells }) => cells)].map(line => line.join(' | ')).join('\n')
  }

  /** Grants the user of `kubeconfig` what docs/kubernetes.md says a server needs. */
  async grantServer (rules: unknown): Promise<void> {
    const rbac = '/apis/rbac.authorization.k8s.io/v1'
    await this.ask('POST', `${rbac}/clusterroles`, { metadata: { name: 'assay-server' }, rules })
    await this.ask('POST', `${rbac}/clusterrolebindings`, {
      metadata: { name: 'assay-server' },
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'assay-server' },
      subjects: [{ apiGroup: 'rbac.authorization.k8s.io', kind: 'User', name: 'assay-server' }]
    })
  }

  /** @returns its UID */
  async addNode (name: string, labels: Readonly<Record<string, string>>): Promise<string> {
    return uidOf(await this.ask('POST', '/api/v1/nodes', { metadata: { name, labels } }))
  }

  async addAccount (name: string): Promise<void> {
    await this.ask('POST', `/api/v1/namespaces/${namespace}/serviceaccounts`, { metadata: { name } })
  }

  /** @returns its UID */
  async addPod (name: string, nodeName: string, account: string): Promise<string> {
    return uidOf(await this.ask('POST', `/api/v1/namespaces/${namespace}/pods`, {
      metadata: { name, labels: { app: 'agent' } },
      spec: {
        nodeName, serviceAccountName: account, automountServiceAccountToken: false, containers: [{ name: 'agent', image: 'agent:1' }]
      }
    }))
  }

  async deletePod (name: string): Promise<void> {
    await this.ask('DELETE', `/api/v1/namespaces/${namespace}/pods/${name}?gracePeriodSeconds=0`)
  }

  /** As a kubelet gets one for a pod. */
  async token ({ account, audience = 'spire-server', pod }: TokenOrder): Promise<string> {
    const { status } = await this.ask('POST', `/api/v1/namespaces/${namespace}/serviceaccounts/${account}/token`, {
      spec: {
        audiences: [audience], expirationSeconds: 600,
        ...pod === undefined ? {} : { boundObjectRef: { apiVersion: 'v1', kind: 'Pod', name: pod } }
      }
    })
    return (status as { token: string }).token
  }

  /** The same token, signed by the cluster's key, after it has expired: no cluster makes tokens for less than ten minutes. */
  async expired (token: string): Promise<string> {
    const [header, claims] = token.split('.').slice(0, 2)
      .map(part => JSON.parse(Buffer.from(part, 'base64url').toString('utf8')) as Record<string, unknown>)
    const kid = String(header?.['kid'])
    const now = Math.floor(Date.now() / 1000)
    const key = await importPKCS8(this.#key.privateKey.export({ format: 'pem', type: 'pkcs8' }) as string, 'RS256')
    const past = { iat: now - 1200, nbf: now - 1200, exp: now - 600 }
    return await new SignJWT({ ...claims, ...past }).setProtectedHeader({ alg: 'RS256', kid }).sign(key)
  }

  async [Symbol.asyncDispose] (): Promise<void> {
    await this.#dispatcher?.destroy()
    for (const child of this.#children.toReversed()) {
      if (child.exitCode !== null || child.signalCode !== null) continue
      child.kill('SIGKILL')
      await once(child, 'exit')
    }
    rmSync(this.#folder, { recursive: true, force: true })
  }

  async #run (program: string): Promise<void> {
    const file = (name: string, content: string) => {
      writeFileSync(join(this.#folder, name), content, { mode: 0o600 })
      return join(this.#folder, name)
    }
    const [client, peer] = [await freePort(), await freePort()]
    const etcd = `http://127.0.0.1:${client}`
    const peers = `http://127.0.0.1:${peer}`
    this.#spawn('etcd', 'etcd', [
      '--data-dir', join(this.#folder, 'etcd'), '--listen-client-urls', etcd, '--advertise-client-urls', etcd,
      '--listen-peer-urls', peers, '--initial-advertise-peer-urls', peers, '--initial-cluster', `default=${peers}`, '--unsafe-no-fsync'
    ])
    await eventually('etcd serves', async () => await isOk(`${etcd}/health`), startMs)
    const server = randomUUID()
    const certificates = join(this.#folder, 'certs')
    mkdirSync(certificates)
    const words = [
      `--etcd-servers=${etcd}`, '--bind-address=127.0.0.1', `--secure-port=${new URL(this.#url).port}`, `--cert-dir=${certificates}`,
      '--allow-privileged=true', '--authorization-mode=Node,RBAC',
      '--service-cluster-ip-range=10.0.0.0/24', `--service-account-issuer=${issuer}`,
      `--service-account-key-file=${file('sa.pub', this.#key.publicKey.export({ format: 'pem', type: 'spki' }) as string)}`,
      `--service-account-signing-key-file=${file('sa.key', this.#key.privateKey.export({ format: 'pem', type: 'pkcs1' }) as string)}`,
      `--api-audiences=${issuer},spire-server`,
      `--token-auth-file=${file('tokens.csv', `${this.#admin},admin,admin,"system:masters"\n${server},assay-server,assay-server\n`)}`
    ]
    const caFile = join(certificates, 'apiserver.crt')
    const child = this.#spawn('kube-apiserver', program, words)
    this.#apiServer = { program, words, child }
    await eventually('kube-apiserver has its certificate', () => {
      if (child?.exitCode !== null) throw new Error(`kube-apiserver ended with ${child?.exitCode}`)
      return existsSync(caFile) && readFileSync(caFile, 'utf8').trim().endsWith('-----END CERTIFICATE-----')
    }, startMs)
    this.#dispatcher = new Agent({ connect: { ca: readFileSync(caFile, 'utf8') } })
    await this.#ready(child)
    await this.ask('POST', '/api/v1/namespaces', { metadata: { name: namespace } })
    for (const [file, token] of [[this.kubeconfig, server], [this.adminKubeconfig, this.#admin]] as const) {
      writeFileSync(file, JSON.stringify({
        'current-context': 'c',
        contexts: [{ name: 'c', context: { cluster: 'k', user: 'u' } }],
        clusters: [{ name: 'k', cluster: { server: this.#url, 'certificate-authority': caFile } }],
        users: [{ name: 'u', user: { token } }]
      }))
    }
  }

  /** etcd goes on, so that it comes back with all it had. */
  async stopApiServer (): Promise<void> {
    const { child } = this.#apiServer ?? {}
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return
    child.kill('SIGKILL')
    await once(child, 'exit')
  }

  /** At the same address. */
  async startApiServer (): Promise<void> {
    const { program, words } = this.#apiServer ?? {}
    if (program === undefined || words === undefined) throw new Error('it was never started')
    const child = this.#spawn('kube-apiserver', program, words)
    this.#apiServer = { program, words, child }
    await this.#ready(child)
  }

  async #ready (child: ChildProcess): Promise<void> {
    await eventually('kube-apiserver serves', async () => {
      if (child.exitCode !== null) throw new Error(`kube-apiserver ended with ${child.exitCode}`)
      await new Promise(resolve => setTimeout(resolve, 200))
      return await isOk(`${this.#url}/readyz`, this.#dispatcher, this.#admin)
    }, startMs)
  }

  #spawn (name: string, program: string, words: readonly string[]): ChildProcess {
    const log = openSync(join(this.#folder, `${name}.log`), 'a')
    const child = spawn(program, words, { stdio: ['ignore', log, log] })
    this.#children.push(child)
    return child
  }
}

async function isOk (url: string, dispatcher?: Agent, token?: string): Promise<boolean> {
  try {
    const response = await request(url, {
      ...dispatcher === undefined ? {} : { dispatcher }, ...token === undefined ? {} : { headers: { authorization: `Bearer ${token}` } }
    })
    await response.body.dump()
    return response.statusCode === 200
  } catch {
    return false
  }
}

function uidOf ({ metadata }: { readonly [name: string]: unknown }): string { return (metadata as { uid: string }).uid }
