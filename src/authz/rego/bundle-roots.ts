/** Whether one path of a manifest's `roots` is inside the other; the empty root has everything inside. */
export function rootsOverlap (a: string, b: string): boolean { return isUnder(a, b) || isUnder(b, a) }

/** Whether some root has the path, names between slashes, inside. */
export function isCovered (roots: readonly string[], path: string): boolean { return roots.some(root => isUnder(path, root)) }

function isUnder (path: string, root: string): boolean { return root === '' || path === root || path.startsWith(`${root}/`) }
