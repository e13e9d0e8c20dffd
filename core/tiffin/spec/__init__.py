"""config.json (OCI runtime specification) as a pure function, with the origin of every field.

`build` puts it together from the modules beside it; `facts` alone looks at this machine.
"""
