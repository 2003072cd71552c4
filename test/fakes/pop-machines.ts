import { createHash, X509Certificate } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { agentCatalog } from '../../src/agent/agent-catalog.ts'
import type { AgentConfig } from '../../src/agent/agent-config.ts'
import { pluginSchemas } from '../../src/plugins/catalog.ts'
import { MachineCa } from './machine-ca.ts'

/** Machines with certificates of one company, whose agents can attest again. */
export class PopMachines {
  /** What servers must be told to believe them. */
  readonly nodeAttestors: { readonly x509pop: { readonly ca_bundle_path: string } }
  readonly #folder: string
  readonly #ca: MachineCa
  #made = 0

  private constructor (folder: string, ca: MachineCa) {
    this.#folder = folder
    this.#ca = ca
    this.nodeAttestors = { x509pop: { ca_bundle_path: join(folder, 'ca.pem') } }
  }

  /** @param folder where their files go; nothing removes them from there */
  static async create (folder: string): Promise<PopMachines> {
    const machines = new PopMachines(folder, await MachineCa.create('CN=Company CA'))
    await writeFile(machines.nodeAttestors.x509pop.ca_bundle_path, machines.#ca.pem)
    return machines
  }

  /** @returns the path of its agent's ID, and by what that attests */
  async next (): Promise<{ readonly path: string, readonly plugins: AgentConfig['plugins'] }> {
    const { certificate, key } = await this.#ca.certify()
    const name = join(this.#folder, `machine-${++this.#made}`)
    await Promise.all([writeFile(`${name}.pem`, certificate), writeFile(`${name}.key`, key)])
    const data = { certificate_path: `${name}.pem`, private_key_path: `${name}.key` }
    return {
      path: `/spire/agent/x509pop/${createHash('sha1').update(new X509Certificate(certificate).raw).digest('hex')}`,
      plugins: z.strictObject(pluginSchemas(agentCatalog)).parse({ NodeAttestor: { x509pop: { plugin_data: data } } })
    }
  }
}
