/**
 * Loads a package of `test/bench/package.json`. What is used of it is typed by the caller: the project's own checks
 * must pass where these packages are not installed.
 */
export async function loadPackage<T>(name: string): Promise<T> {
  return (await import(name)) as T // as its manual says
}
