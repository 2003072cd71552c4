import { KubeRefusal } from '../../src/controller/kubernetes/kube-client.ts'
import type { KubeObject } from '../../src/controller/kubernetes/kube-object.ts'

/** One object of an API server, with its rule: who replaces it must have seen its last version. */
export class LeaseStore {
  object: KubeObject | undefined
  /** Calls fail while it is. */
  isAway = false
  #version = 0

  get holder (): unknown { return this.object?.spec?.['holderIdentity'] }

  async get (): Promise<KubeObject | undefined> {
    this.#reach()
    return this.object
  }

  async create (_path: string, body: object): Promise<KubeObject> {
    this.#reach()
    if (this.object !== undefined) throw new KubeRefusal(409, 'POST', 'already exists')
    return this.#store(body)
  }

  async replace (_path: string, body: object): Promise<KubeObject> {
    this.#reach()
    const { resourceVersion } = (body as KubeObject).metadata
    if (resourceVersion !== this.object?.metadata.resourceVersion) throw new KubeRefusal(409, 'PUT', 'modified')
    return this.#store(body)
  }

  #store (body: object): KubeObject {
    const object = structuredClone(body) as KubeObject
    this.object = { ...object, metadata: { ...object.metadata, uid: 'u', resourceVersion: `${++this.#version}` } }
    return this.object
  }

  #reach (): void { if (this.isAway) throw new KubeRefusal(500, 'it', 'is away') }
}
