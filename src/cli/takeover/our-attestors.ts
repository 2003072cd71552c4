import type { Attestors } from '../../takeover/servable.ts'

/** What the catalogs of our agents and servers have. */
export async function ourAttestors (): Promise<Attestors> {
  // Loaded only now: they load every attestor there is.
  const [{ agentCatalog }, { serverCatalog }] = await Promise.all([
    import('../../agent/agent-catalog.ts'), import('../../server/server-catalog.ts')
  ])
  const names = ({ plugins }: { readonly plugins: readonly { readonly name: string }[] }) => new Set(plugins.map(({ name }) => name))
  return {
    workload: names(agentCatalog.WorkloadAttestor), node: names(agentCatalog.NodeAttestor).intersection(names(serverCatalog.NodeAttestor))
  }
}
